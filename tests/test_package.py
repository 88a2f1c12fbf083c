"""The package as users get it: a wheel, installed outside the clone."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.wheel_fixtures import pip

# For `python -c`: as where no Detectron2 is installed.
WITHOUT = "import sys; sys.modules['detectron2'] = None\n"


def shipped_files(folder):
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_every_file_of_the_package_and_the_configs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {f"glipv2_d2/{name}" for name in shipped_files(ROOT / "glipv2_d2")}
    configs = {f"glipv2_d2/configs/{name}" for name in shipped_files(ROOT / "configs")}
    commands = {f"glip_commands/{name}" for name in shipped_files(ROOT / "glip_commands")}
    weights = {f"glipv2_d2/weights/{name}" for name in shipped_files(ROOT / "weights")}
    assert configs and weights
    assert inside == package | configs | commands | weights
    assert wheel.stat().st_size < 60e6  # an index takes 100 MB


@pytest.fixture(scope="module")
def site(wheel, module_path):
    """Where the wheel is installed, with its commands in bin/."""
    folder = module_path / "site"
    pip("install", "--no-deps", "--target", str(folder), str(wheel))
    return folder


def run(site, folder, *arguments):
    """Python outside the clone, with the installed wheel."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


def test_without_detectron2_there_is_one_sentence_with_the_remedy(site, tmp_path):
    result = run(site, tmp_path, "-c", WITHOUT + "import glipv2_d2.engine")
    sentence = result.stderr.splitlines()[-1]
    assert sentence.startswith("ModuleNotFoundError: glipv2_d2 extends Detectron2, which is not")
    assert "run `glip install-detectron2` " in sentence
    train = WITHOUT + "from glip_commands.main import main; sys.exit(main(['train', 'a=1']))"
    result = run(site, tmp_path, "-c", train)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == sentence.replace("ModuleNotFoundError", "error") + "\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_without_detectron2_there_is_help(arguments, site, tmp_path):
    code = WITHOUT + f"from glip_commands.main import main; sys.exit(main({arguments}))"
    result = run(site, tmp_path, "-c", code)
    assert result.returncode == 0 and "glip" in result.stdout, result.stderr


@pytest.mark.parametrize("command", [["glip", "install-detectron2"], ["glip-install-detectron2"]])
def test_the_remedy_is_installed_with_the_wheel(command, site, tmp_path):
    script, *arguments = command
    result = run(site, tmp_path, str(site / "bin" / script), *arguments)  # Detectron2 is here
    assert result.returncode == 0 and result.stdout.startswith("Keeping Detectron2 0.6")


def test_installed_wheel_finds_its_configs_outside_the_clone(site, tmp_path):
    code = (
        "import pathlib, glipv2_d2\n"
        "from glipv2_d2.config import get_config, resolve_config\n"
        f"site = pathlib.Path({str(site)!r}).resolve()\n"
        "assert site in pathlib.Path(glipv2_d2.__file__).resolve().parents\n"
        "configs = site / 'glipv2_d2' / 'configs'\n"
        "files = sorted(configs.rglob('*.py'))\n"
        "for file in files:\n"
        "    name = file.relative_to(configs).as_posix()\n"
        "    assert resolve_config(name) == str(file), name\n"
        "    get_config(name)\n"
        "print(len(files))\n"
    )
    result = run(site, tmp_path, "-c", code)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 0


def test_the_import_knows_the_scenes_without_their_renderer(tmp_path):
    """Nor does it load what draws, or what the photographs come with; and the collector works as
    before, which writes the end of a file that an object in a cycle has opened."""
    code = (
        "import gc, sys, glipv2_d2\n"
        "assert gc.isenabled()\n"
        "from detectron2.data import DatasetCatalog\n"
        "assert {'scenes_train', 'scenes_val', 'scenes_novel'} <= set(DatasetCatalog.list())\n"
        "print(*sys.modules)\n"
        "class Owner: pass\n"
        "owner = Owner()\n"
        f"owner.self, owner.file = owner, open({str(tmp_path / 'log')!r}, 'w')\n"
        "owner.file.write('the end')"
    )
    result = run(ROOT, ROOT, "-c", code)
    loaded = set(result.stdout.split())
    assert "glipv2_d2.data" in loaded, result.stderr
    assert not loaded & {"glipv2_d2.scenes", "matplotlib", "skimage", "sklearn"}
    assert (tmp_path / "log").read_text() == "the end"


def test_what_the_metadata_says(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    for line in (
        "Author: glipv2_d2 contributors",
        "License: Apache-2.0",
        "Requires-Python: >=3.10",
    ):
        assert line in text.splitlines()
    assert "glipv2_d2/py.typed" in names
    shipped = {Path(name).name for name in names if ".dist-info/" in name}
    assert {"LICENSE", "NOTICE"} <= shipped


def test_version_is_the_installed_one(wheel):
    import glipv2_d2

    assert wheel.name.startswith(f"glipv2_d2-{glipv2_d2.__version__}-")
