"""The files to deploy with say what exists: nothing here builds an image or starts a machine."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from lowlat.cli import app

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "docs" / "deploy"
PAGE = (ROOT / "docs" / "deploy.md").read_text()


def check_lowlat(line):
    """The command and the options of a line exist; gives its options' words."""
    program, name, *words = shlex.split(line)
    command = typer.main.get_command(app).commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    used = [word for word in words if word.startswith("-")]
    assert program == "lowlat" and set(used) <= known, line
    return dict(zip(words, words[1:], strict=False))


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "ray-cluster.yaml"])
def test_the_page_shows_the_files(name):
    assert f"```{'yaml' if name.endswith('yaml') else 'dockerfile'}\n{(DEPLOY / name).read_text()}```\n" in PAGE


def test_the_image_holds_what_the_build_needs():
    """Every file that the build reads is let in, and what is installed is an extra that exists."""
    text = (DEPLOY / "Dockerfile").read_text()
    let_in = re.findall(r"^!(.*)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), flags=re.M)
    assert all((ROOT / name).exists() for name in let_in)
    assert {"CMakeLists.txt", "LICENSE", "MANIFEST.in", "README.md", "csrc", "lowlat", "svconv", "setup.py"} <= set(
        let_in
    )
    project = (ROOT / "pyproject.toml").read_text()
    (extra,) = re.findall(r"/src\[(\w+)\]", text)
    assert re.search(rf"^{extra} = \[", project, flags=re.M)
    (required,) = re.findall(r"^requires = \[(.*)\]$", project, flags=re.M)
    asked = re.findall(r'"([\w-]+(?:>=[\d.]+)?)"', required)
    assert all(re.search(rf'[ "]{re.escape(word)}[ "]', text) for word in asked if not word.startswith("torch"))
    # The same torch as the tests'.
    (torch,) = re.findall(r"^TORCH \?= (.*)$", (ROOT / "Makefile").read_text(), flags=re.M)
    assert torch in text and PAGE.count(torch) == text.count(torch) + 1


@pytest.mark.parametrize("name", ["lowlat", "lowlat-cuda"])
def test_compose_starts_the_service_with_a_token(name):
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = services["services"][name]
    options = check_lowlat(service["command"])
    assert options["--token-file"] == f"/run/secrets/{service['secrets'][0]}" and options["--host"] == "0.0.0.0"
    assert service["ports"] == [f"{options['--port']}:{options['--port']}"]
    assert set(service["secrets"]) <= set(services["secrets"])
    assert (options.get("--device") == "cuda") == (name == "lowlat-cuda") == ("devices" in str(service.get("deploy")))


def test_compose_builds_the_image_of_this_project():
    build = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["lowlat"]["build"]
    context = (DEPLOY / build["context"]).resolve()
    assert context == ROOT and (context / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")


@pytest.mark.thorough
def test_the_cluster_is_one_that_ray_takes():
    import jsonschema
    import ray.autoscaler

    cluster = yaml.safe_load((DEPLOY / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text()))
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_the_commands_for_the_cluster_exist():
    lines = re.findall(r'^ray exec (\S+) "(.*)"$', PAGE, flags=re.M)
    assert [check_lowlat(line)["--ray"] for _, line in lines] == ["auto", "auto"]
    assert all((ROOT / file).samefile(DEPLOY / "ray-cluster.yaml") for file, _ in lines)


def test_what_to_expect_is_what_the_simulated_clock_says():
    (line,) = re.findall(r"^lowlat (simulate .*)$", PAGE, flags=re.M)
    heading, _, *rows = re.findall(r"^\| .*|^\|-.*", PAGE, flags=re.M)
    names = re.findall(r"`(\w+)`", heading)
    assert len(rows) == 4
    for row in rows:
        videos, *values = [cell.strip() for cell in row.strip("|").split("|")]
        words = shlex.split(line.replace("--videos 8", f"--videos {videos}"))
        report = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
        assert values == [f"{report[name]:g}" for name in names] and report["dropped"] == 0
        assert f"{report['capacity']} videos" in PAGE
