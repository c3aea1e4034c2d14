"""The derivatives of the three products, of any order, reverse and forward, for autograd and `torch.func`.

With `normalize=False` the logits are the weights, and the three products are what `<grad_out, out>`, linear in
grad_out, input and weights, leaves when one of them is taken away. So each one's derivatives are the other two, and the
softmax's are ordinary tensor code (`svconv.weights`).

The log-sum-exp spares the kernels a pass over the logits; it is a function of them and has no derivative of its own.
What is saved is what the gradients asked for need. `options` are the raw schema arguments (`svconv.ops`); torch leaves
out those at the end that have their defaults.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from svconv import torch_private, windows
from svconv.weights import softmax_hessian, softmax_jacobian


def register(library: torch.library.Library, products, keys: tuple[str, ...]) -> None:
    """Register the derivatives of one backend's products (`svconv.ops.Products`) under the dispatch keys."""
    _register(library, products, products.forward, _Forward, keys)
    _register(library, products, products.grad_input, _GradInput, keys)
    _register(library, products, products.grad_weight, _GradWeight, keys)


def _bilinear(options):
    """Return the options with weights in place of logits."""
    kernel_size, dilation, groups, _, _, *rest = options
    return kernel_size, dilation, groups, False, False, *rest


def _softmax_options(options) -> tuple[tuple, dict[str, object]]:
    """What `svconv.weights` takes of the options: in order, and by name."""
    kernel_size, dilation, groups, _, renormalize, *rest = options
    correlation = len(rest) > 2 and rest[2]
    window = {"taps": "correlation" if correlation else "convolution", "scale": rest[3] if len(rest) > 3 else 1}
    return (kernel_size, dilation, groups, renormalize), window


def _on_pixels(function: Callable, options, *tensors: Tensor) -> Tensor:
    """Call a function of `svconv.weights` on logits and tensors of their shape, which may have cells."""
    sizes, window = _softmax_options(options)
    if len(options) < 10 or not options[9]:
        return function(*tensors, *sizes, **window)
    fine = [windows.to_pixels(tensor, window["scale"]) for tensor in tensors]
    return windows.to_cells(function(*fine, *sizes, **window), window["scale"])


def _weights_along(logits: Tensor, direction: Tensor, options) -> Tensor:
    """The weights' derivative along a direction of the logits, and a cotangent of the weights brought to the logits."""
    return _on_pixels(softmax_jacobian, options, logits, direction) if options[3] else direction


def _grad_weight_along(ctx, grad_out: Tensor, input: Tensor, logits: Tensor, direction: Tensor, lse: Tensor):
    """grad_weight's derivative along a direction of the logits; None where there is no softmax to derive."""
    if not ctx.options[3]:
        return None
    weights_grad = ctx.ops.grad_weight(grad_out, input, logits.detach(), lse, *_bilinear(ctx.options))
    return _on_pixels(softmax_hessian, ctx.options, logits, weights_grad, direction)


def _sum(*terms: Tensor | None) -> Tensor | None:
    terms = [term for term in terms if term is not None]
    return sum(terms[1:], terms[0]) if terms else None


class _Forward:
    @staticmethod
    def setup_context(ctx, inputs, output):
        input, logits, *ctx.options = inputs
        _, lse = output
        ctx.mark_non_differentiable(lse)
        needs_input, needs_logits = ctx.needs_input_grad[:2]
        ctx.save_for_backward(input if needs_logits else None, logits if needs_input or needs_logits else None, lse)
        ctx.save_for_forward(input, logits)

    @staticmethod
    def backward(ctx, grad_out, _):
        input, logits, lse = ctx.saved_tensors
        needs_input, needs_logits = ctx.needs_input_grad[:2]
        grad_input = ctx.ops.grad_input(grad_out, logits, lse, *ctx.options) if needs_input else None
        grad_logits = ctx.ops.grad_weight(grad_out, input, logits, lse, *ctx.options) if needs_logits else None
        return grad_input, grad_logits

    @staticmethod
    def jvp(ctx, primals, input_t, logits_t):
        input, logits = primals
        by_input = ctx.ops.forward(input_t, logits, *ctx.options)[0] if input_t is not None else None
        by_logits = None
        if logits_t is not None:
            weights_t = _weights_along(logits, logits_t, ctx.options)
            by_logits = ctx.ops.forward(input, weights_t, *_bilinear(ctx.options))[0]
        return _sum(by_input, by_logits), None


class _GradInput:
    @staticmethod
    def setup_context(ctx, inputs, output):
        grad_out, logits, lse, *ctx.options = inputs
        ctx.save_for_backward(grad_out if ctx.needs_input_grad[1] else None, logits, lse)
        ctx.save_for_forward(grad_out, logits, lse)

    @staticmethod
    def backward(ctx, cotangent):
        """Take <cotangent, grad_input>, which is <grad_out, out> with the cotangent as the input."""
        grad_out, logits, lse = ctx.saved_tensors
        needs_grad_out, needs_logits = ctx.needs_input_grad[:2]
        to_grad_out = ctx.ops.forward(cotangent, logits, *ctx.options)[0] if needs_grad_out else None
        to_logits = ctx.ops.grad_weight(grad_out, cotangent, logits, lse, *ctx.options) if needs_logits else None
        return to_grad_out, to_logits

    @staticmethod
    def jvp(ctx, primals, grad_out_t, logits_t, _):
        grad_out, logits, lse = primals
        by_grad_out = ctx.ops.grad_input(grad_out_t, logits, lse, *ctx.options) if grad_out_t is not None else None
        by_logits = None
        if logits_t is not None:
            weights_t = _weights_along(logits, logits_t, ctx.options)
            by_logits = ctx.ops.grad_input(grad_out, weights_t, lse, *_bilinear(ctx.options))
        return _sum(by_grad_out, by_logits)


class _GradWeight:
    @staticmethod
    def setup_context(ctx, inputs, output):
        grad_out, input, logits, lse, *ctx.options = inputs
        needs_grad_out, needs_input, needs_logits = ctx.needs_input_grad[:3]
        ctx.save_for_backward(
            grad_out if needs_input or needs_logits else None,
            input if needs_grad_out or needs_logits else None,
            logits,
            lse,
        )
        ctx.save_for_forward(grad_out, input, logits, lse)

    @staticmethod
    def backward(ctx, cotangent):
        """Take grad_weight as the softmax's Jacobian, a symmetric one, times the bilinear product of grad_out and
        input."""
        grad_out, input, logits, lse = ctx.saved_tensors
        needs_grad_out, needs_input, needs_logits = ctx.needs_input_grad[:3]
        to_grad_out = to_input = to_logits = None
        if needs_grad_out or needs_input:
            to_weights = _weights_along(logits, cotangent, ctx.options)
            to_grad_out = ctx.ops.forward(input, to_weights, *_bilinear(ctx.options))[0] if needs_grad_out else None
            to_input = ctx.ops.grad_input(grad_out, to_weights, lse, *_bilinear(ctx.options)) if needs_input else None
        if needs_logits:
            to_logits = _grad_weight_along(ctx, grad_out, input, logits, cotangent, lse)
        return to_grad_out, to_input, to_logits

    @staticmethod
    def jvp(ctx, primals, grad_out_t, input_t, logits_t, _):
        grad_out, input, logits, lse = primals
        return _sum(
            ctx.ops.grad_weight(grad_out_t, input, logits, lse, *ctx.options) if grad_out_t is not None else None,
            ctx.ops.grad_weight(grad_out, input_t, logits, lse, *ctx.options) if input_t is not None else None,
            _grad_weight_along(ctx, grad_out, input, logits, logits_t, lse) if logits_t is not None else None,
        )


def _register(library: torch.library.Library, products, op: Callable, formulas: type, keys: tuple[str, ...]) -> None:
    """Do for an operator what `torch.library.register_autograd` does, for `torch.func` and forward mode too."""

    below_autograd = torch_private.AutoDispatchBelowAutograd

    class Function(torch_private.SingleLevelFunction):
        _compiled_autograd_key = staticmethod(torch_private.compiled_autograd_key)

        @staticmethod
        def forward(*inputs):
            *inputs, keyset = inputs
            # An outer transform of torch.func still records, though this level's function does not.
            with torch.enable_grad(), torch_private.set_forward_gradients(True), below_autograd():
                return op.redispatch(keyset & torch_private.after_autograd, *inputs)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.set_materialize_grads(False)
            ctx.ops, ctx.inputs = products, len(inputs)
            formulas.setup_context(ctx, inputs[:-1], output)

        @staticmethod
        def backward(ctx, *grads):
            # The first result is the only differentiable one.
            grads = formulas.backward(ctx, *grads) if grads[0] is not None else ()
            return *grads, *(None,) * (ctx.inputs - len(grads))

        @staticmethod
        def jvp(ctx, *tangents):
            # The tangents may have tangents of an outer transform, which the formulas must carry on.
            with torch_private.set_forward_gradients(True):
                primals = [forward_ad.unpack_dual(t).primal for t in ctx.saved_tensors]
                return formulas.jvp(ctx, primals, *tangents[: -1 - len(ctx.options)])

    def autograd(keyset, *inputs):
        reverse = torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in inputs)
        if not reverse and not torch_private.in_forward_mode():
            with below_autograd():
                return op.redispatch(keyset & torch_private.after_autograd, *inputs)
        with torch_private.enable_single_level_autograd_function():
            return Function.apply(*inputs, keyset)

    for key in keys:
        library.impl(op.overloadpacket.__name__, autograd, key, with_keyset=True)
