"""The replicas that Ray Serve keeps, one a device and each with a hub. How many there are depends on the room in
them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

NAME = "lowlat"
"""The application's name in Ray Serve."""
LOOK_S = 1.0
"""Seconds between two looks of Ray Serve at a replica's hub. It replaces a replica after three looks without an
answer."""
MOST_CALLS = 1000
"""How many calls a hub takes at once; each viewer waits in one."""


@dataclass(frozen=True)
class Replicas:
    """How many replicas there are, and what each gets.

    Args:
        least: how many there are at the start, and always.
        most: the most replicas; if that is more than ``least``, :func:`by_room` decides.
        cores: CPU cores of each, without a GPU.
        gpus: GPUs of each.
        wait_s: seconds without room after which one more is asked for.
    """

    least: int = 1
    most: int = 1
    cores: int = 1
    gpus: int = 0
    wait_s: float = 10.0


def by_room(context: Any) -> tuple[int, dict[str, Any]]:
    """Decide how many replicas there should be, as Ray Serve's autoscaling asks: one more if no hub has room for
    another video of the usual rate; one fewer if the others have room for all videos of any one hub, and for one more.

    Args:
        context: Ray Serve's `AutoscalingContext`, with what `record_autoscaling_stats` of the replicas returned.
    """
    measured = context.aggregated_metrics or {}
    rooms = {str(replica): room for replica, room in measured.get("room", {}).items()}
    videos = {str(replica): count for replica, count in measured.get("videos", {}).items()}
    wanted = context.target_num_replicas
    # Some are still starting, so their room isn't known yet.
    if len(rooms) >= wanted and set(rooms) == set(videos):
        total = sum(rooms.values())
        if total < 1:
            wanted += 1
        elif len(rooms) > 1 and all(total - rooms[replica] > videos[replica] for replica in rooms):
            wanted -= 1
    least, most = context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas
    return min(max(wanted, least), most), {}


def deployed(replicas: Replicas, *arguments: Any) -> Any:
    """Have Ray Serve keep the replicas, and return its handle of them.

    Args:
        replicas: how many, and what each gets.
        arguments: those of `HubActor`.
    """
    from ray import serve

    resources = {"GPU": replicas.gpus, "CPU": 1} if replicas.gpus else {"CPU": replicas.cores}
    options: dict[str, Any] = {"num_replicas": replicas.least}
    if replicas.most > replicas.least:
        policy = {"policy_function": f"{__name__}:by_room"}
        bounds = {"min_replicas": replicas.least, "max_replicas": replicas.most, "upscale_delay_s": replicas.wait_s}
        options = {"autoscaling_config": {**bounds, "look_back_period_s": max(replicas.wait_s, 10.1), "policy": policy}}
    deployment = serve.deployment(
        Replica,
        name="hubs",
        ray_actor_options={"num_cpus": 0},
        # These resources are for the hub, an actor that the replica starts.
        placement_group_bundles=[resources],
        health_check_period_s=LOOK_S,
        graceful_shutdown_timeout_s=20,
        **options,
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    serve.start(proxy_location="Disabled", logging_config={"log_level": "WARNING"})
    if NAME in serve.status().applications:
        # An ingress that was killed has left these replicas, and their videos belong to nobody.
        serve.delete(NAME)
    return serve.run(deployment.bind(replicas, arguments), name=NAME, route_prefix=None)


def ended() -> None:
    """End the replicas and their application in Ray Serve."""
    from ray import serve

    serve.delete(NAME)


class Replica:
    """Starts a hub on its device and lives as long as it: Ray Serve replaces a replica whose hub has died.

    Args:
        replicas: what the hub gets.
        arguments: those of `HubActor`.
    """

    def __init__(self, replicas: Replicas, arguments: tuple[Any, ...]) -> None:
        import ray

        from lowlat.serve.many.hub import HubActor

        options = {"num_cpus": 1 if replicas.gpus else replicas.cores, "num_gpus": replicas.gpus}
        # The hub has a process of its own, which alone uses the device.
        self._hub = ray.remote(max_concurrency=MOST_CALLS, **options)(HubActor).remote(*arguments)
        ray.get(self._hub.state.remote())

    async def hub(self) -> Any:
        """Return the actor."""
        return self._hub

    async def check_health(self) -> None:
        """Raise an error if the hub is gone."""
        await self._hub.looks.remote()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return what :func:`by_room` goes by."""
        state = await self._hub.state.remote()
        return {"room": state["room"], "videos": len(state["videos"])}
