"""`glip doctor`: each line is found out, and what is missing has a command that brings it."""

import pytest

from glip_commands import doctor
from glip_commands.install_detectron2 import InstallError
from glip_commands.main import main


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """What starts a Python of its own answers at once, as on a machine where all is well."""
    monkeypatch.setattr(doctor, "check_torch", lambda: "2.9")
    monkeypatch.setattr(doctor, "installed_detectron2", lambda: ("0.6 in site", None))


def test_where_all_is_well(capsys, tmp_path, monkeypatch):
    (tmp_path / "glip_t.pth").touch()
    monkeypatch.setenv("GLIP_WEIGHTS", str(tmp_path))
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for line in (
        "ok      PyTorch 2.9 and its",
        "ok      Detectron2 0.6 in site",
        "ok      device cpu",
    ):
        assert line in printed
    assert f"ok      weights of glip_t: {tmp_path}/glip_t.pth" in printed
    assert "MISSING" not in printed


def test_what_is_missing_has_its_command(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "installed_detectron2", lambda: (None, None))
    requirements = ["torch>=2.4", "timm>=99.1", 'no_such_package>=1; extra == "export"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: requirements)
    monkeypatch.setattr(doctor, "DEMO_TEXT_MODEL", "no-such-model")
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "MISSING Detectron2\n        -> glip install-detectron2\n" in printed
    assert "MISSING packages of glipv2_d2: timm " in printed and "older than 99.1" in printed
    assert "-       packages of glipv2_d2[export], glip export" in printed
    assert ": no_such_package\n        -> pip install 'glipv2_d2[export]'\n" in printed
    assert "-> pip install --no-deps no-such-model\n" in printed


def test_without_pytorch_nothing_else_is_asked(capsys, monkeypatch):
    def absent():
        raise InstallError("PyTorch cannot be imported. Install it")

    monkeypatch.setattr(doctor, "check_torch", absent)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("MISSING PyTorch cannot be imported. Install it\n")
