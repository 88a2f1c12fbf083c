"""The Detectron2 installer: without network, on archives made here."""

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from glip_commands import detectron2_wheel, install_detectron2
from glip_commands.detectron2_wheel import InstallError, Repair

ROOT = Path(__file__).resolve().parents[2]

# Every repair's "before", as v0.6 has it.
BROKEN = {
    "detectron2/data/transforms/transform.py": "interp = Image.LINEAR\n",
    "detectron2/data/build.py": "a = np.zeros(3, dtype=np.int)\n",
    "detectron2/data/datasets/pascal_voc.py": "a = np.loadtxt(f, dtype=np.str)\n",
    "detectron2/evaluation/pascal_voc_evaluation.py": "a = b.astype(np.bool)\n",
    "detectron2/evaluation/sem_seg_evaluation.py": "a = (np.int, np.float, np.int64, np.int_)\n",
    "detectron2/structures/masks.py": "a = b.astype(np.bool)\n",
    "detectron2/utils/video_visualizer.py": "a = np.zeros(3, dtype=np.bool)\n",
    "detectron2/utils/visualizer.py": "a = b.numpy().astype(np.bool)\n",
    "detectron2/model_zoo/model_zoo.py": (
        "import pkg_resources\n"
        "cfg_file = pkg_resources.resource_filename(\n"
        '    "detectron2.model_zoo", os.path.join("configs", config_path)\n)\n'
    ),
    "detectron2/layers/deform_conv.py": "from detectron2 import _C\n",
    "detectron2/layers/roi_align_rotated.py": "from detectron2 import _C\n",
    "detectron2/layers/rotated_boxes.py": "from detectron2 import _C\n",
    "detectron2/evaluation/coco_evaluation.py": (
        "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
    ),
    "detectron2/modeling/anchor_generator.py": "a, b = torch.meshgrid(shifts_y, shifts_x)\n",
}
OTHERS = {
    "detectron2/__init__.py": '__version__ = "0.6"\n',
    "detectron2/modeling/__init__.py": "",
    "detectron2/model_zoo/configs/common/train.py": "train = {}\n",
    "detectron2/model_zoo/configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml": "A: 1\n",
    "projects/PointRend/point_rend/__init__.py": "",
    "setup.py": "raise SystemExit('the sdist must not be executed')\n",
    "LICENSE": "Apache\n",
}


def make_sdist(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def no_detectron2(monkeypatch):
    """As on a machine without Detectron2, whatever is installed here; pip may not be called."""
    monkeypatch.setattr(install_detectron2, "installed_detectron2", lambda: (None, None))
    monkeypatch.setattr(install_detectron2, "check_torch", lambda: "2.9")
    monkeypatch.setattr(install_detectron2, "pip", lambda *_, **__: pytest.fail("pip was called"))


def failure(capsys, *arguments):
    """Run the installer in this process; return its one line on stderr."""
    assert install_detectron2.main(list(arguments)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_wheel_is_repaired_and_complete(tmp_path):
    sdist, digest = make_sdist(tmp_path / "sdist.tar.gz", {**BROKEN, **OTHERS})
    wheel = detectron2_wheel.build_wheel(sdist, tmp_path / "wheels", digest)
    first = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        text = {name: archive.read(name).decode() for name in names}
    assert "detectron2/projects/point_rend/__init__.py" in names
    assert "setup.py" not in names
    assert text["detectron2/data/transforms/transform.py"] == "interp = Image.BILINEAR\n"
    # Only the aliases: np.int64 and np.int_ are still there.
    assert text["detectron2/evaluation/sem_seg_evaluation.py"] == (
        "a = (int, float, np.int64, np.int_)\n"
    )
    assert "pkg_resources" not in text["detectron2/model_zoo/model_zoo.py"]
    info = "detectron2-0.6+purepython.dist-info"
    assert "Requires-Dist: fvcore" in text[f"{info}/METADATA"]
    recorded = {line.split(",")[0] for line in text[f"{info}/RECORD"].splitlines()}
    assert recorded == names
    again = detectron2_wheel.build_wheel(sdist, tmp_path / "wheels", digest)
    assert again == wheel and wheel.read_bytes() == first
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [wheel.name]


def test_optional_operators_import_without_them(tmp_path):
    sources = {name: text.encode() for name, text in BROKEN.items()}
    for repair in detectron2_wheel.REPAIRS:
        repair.apply(sources)
    package = tmp_path / "detectron2"
    for name in ("layers/rotated_boxes.py", "evaluation/coco_evaluation.py"):
        (package / name).parent.mkdir(parents=True)
        text = sources[f"detectron2/{name}"].decode()
        (package / name).write_text("COCOeval = 'plain'\n" + text)
        (package / name).with_name("__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "evaluation" / "fast_eval_api.py").write_text("from detectron2 import _C\n")
    code = (
        "from detectron2.layers import rotated_boxes\n"
        "from detectron2.evaluation import coco_evaluation\n"
        "assert rotated_boxes._C is None\n"
        "assert coco_evaluation.COCOeval_opt == 'plain'\n"
    )
    subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, check=True)


def test_tampered_sdist(tmp_path, capsys, no_detectron2):
    sdist, _ = make_sdist(tmp_path / "pb1-detectron2-0.6.tar.gz", {**BROKEN, **OTHERS})
    message = failure(capsys, "--sdist", str(sdist))
    assert "is not the official Detectron2 v0.6 sdist" in message
    assert detectron2_wheel.SDIST_SHA256 in message and "Nothing was installed" in message


def test_missing_sdist(tmp_path, capsys, no_detectron2):
    message = failure(capsys, "--sdist", str(tmp_path / "none.tar.gz"))
    assert "cannot read the sdist" in message and "none.tar.gz" in message


def test_file_that_is_no_archive(tmp_path, capsys, no_detectron2, monkeypatch):
    sdist = tmp_path / "page.tar.gz"
    sdist.write_text("<html>an error page of a proxy</html>")
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    monkeypatch.setattr(
        install_detectron2,
        "build_wheel",
        lambda path, folder: detectron2_wheel.build_wheel(path, folder, digest),
    )
    assert "is not a readable .tar.gz archive" in failure(capsys, "--sdist", str(sdist))


def test_truncated_and_incomplete_archives(tmp_path):
    sdist, _ = make_sdist(tmp_path / "whole.tar.gz", {**BROKEN, **OTHERS})
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(sdist.read_bytes()[:-200])
    with pytest.raises(InstallError, match="not a readable"):
        detectron2_wheel.read_sdist(cut)
    sdist, _ = make_sdist(tmp_path / "part.tar.gz", BROKEN)
    with pytest.raises(InstallError, match="incomplete: it has no detectron2/__init__.py"):
        detectron2_wheel.read_sdist(sdist)


@pytest.mark.parametrize("repair", detectron2_wheel.REPAIRS, ids=lambda repair: repair.reason)
def test_repair_with_nothing_to_repair(repair):
    whole = dict.fromkeys(BROKEN, b"already = 'repaired'\n")
    with pytest.raises(InstallError, match="found nothing to change in detectron2/"):
        repair.apply(whole)
    with pytest.raises(InstallError, match="the sdist has no file detectron2/"):
        repair.apply({})


def test_repair_that_breaks_the_syntax_is_not_written():
    repair = Repair("test", ("a.py",), "one", "1 +")
    with pytest.raises(SyntaxError):
        repair.apply({"a.py": b"x = one\n"})


def fake_module(folder, name, text):
    (folder / f"{name}.py").write_text(text)


def run_script(folder, *arguments):
    """The script itself, where only the modules in `folder` are installed (and no pip)."""
    code = (
        "import sys, runpy, subprocess\n"
        f"sys.argv = ['install_detectron2', *{list(arguments)!r}]\n"
        "runpy.run_module('glip_commands.install_detectron2', run_name='__main__')\n"
    )
    # -S and a PYTHONPATH of one folder: no site-packages, for the script's own probes too.
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    wrapper.chmod(0o755)
    code = code.replace("import sys,", f"import sys; sys.executable = {str(wrapper)!r}\nimport", 1)
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )


def test_a_clone_has_it_as_a_script(tmp_path):
    command = [sys.executable, ROOT / "tools" / "install_detectron2.py", "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "--from-git" in result.stdout and not result.stderr


@pytest.mark.parametrize(
    ("torch", "torchvision", "message"),
    [
        (None, None, "PyTorch cannot be imported"),
        ("__version__ = '1.13.1'", "", "PyTorch 1.13.1 is older than 2.4"),
        ("__version__ = '2.9.0'", None, "torchvision does not work with PyTorch 2.9.0: Module"),
        (
            "__version__ = '2.9.0'",
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "torchvision does not work with PyTorch 2.9.0: RuntimeError: operator torchvision::nms",
        ),
    ],
)
def test_missing_or_unfit_torch(tmp_path, torch, torchvision, message):
    for name, text in (("torch", torch), ("torchvision", torchvision)):
        if text is not None:
            fake_module(tmp_path, name, text)
    result = run_script(tmp_path)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert "-m pip install torch torchvision" in lines[0]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "another sha256"),
        ("WARNING: Retrying ... NewConnectionError('Connection refused')", "cannot be reached"),
        ("No module named pip", "ensurepip"),
        ("ERROR: Could not find a version that satisfies", "Could not find a version"),
        ("", "no output"),
    ],
)
def test_download_failures(tmp_path, capsys, monkeypatch, output, message):
    monkeypatch.setattr(install_detectron2, "installed_detectron2", lambda: (None, None))
    monkeypatch.setattr(install_detectron2, "check_torch", lambda: "2.9")
    monkeypatch.setattr(
        install_detectron2,
        "pip",
        lambda *_, **__: subprocess.CompletedProcess([], 1, stdout="", stderr=output),
    )
    line = failure(capsys)
    assert message in line and "--sdist FILE" in line


def test_download_asks_pip_for_the_hash(tmp_path, monkeypatch):
    calls = []

    def pip(*arguments, env):
        calls.append((arguments, env))
        requirements = Path(arguments[arguments.index("--requirement") + 1]).read_text()
        assert f"--hash=sha256:{detectron2_wheel.SDIST_SHA256}" in requirements
        assert (Path(env["PYTHONPATH"]) / "setuptools" / "build_meta.py").is_file()
        target = Path(arguments[arguments.index("--dest") + 1])
        target.mkdir()
        (target / "pb1-detectron2-0.6.tar.gz").write_text("")
        return subprocess.CompletedProcess([], 0, stdout="", stderr="")

    monkeypatch.setattr(install_detectron2, "pip", pip)
    assert install_detectron2.download_sdist(tmp_path).name == "pb1-detectron2-0.6.tar.gz"
    arguments = " ".join(calls[0][0])
    assert "--require-hashes" in arguments and "--index-url" not in arguments


def test_stand_in_backend_gives_metadata(tmp_path, monkeypatch):
    """What pip runs instead of the sdist's setup.py."""
    namespace = {}
    text = install_detectron2.BACKEND.format(folder="a-1", name="a", version="1")
    exec(compile(text, "build_meta.py", "exec"), namespace)
    backend = namespace["__legacy__"]
    assert backend.get_requires_for_build_wheel() == []
    folder = backend.prepare_metadata_for_build_wheel(str(tmp_path))
    metadata = (tmp_path / folder / "METADATA").read_text().splitlines()
    assert metadata[1:] == ["Name: a", "Version: 1"]


def test_working_detectron2_is_kept(monkeypatch, capsys):
    monkeypatch.setattr(install_detectron2, "installed_detectron2", lambda: ("0.6 in X", None))
    monkeypatch.setattr(install_detectron2, "pip", lambda *_, **__: pytest.fail("pip was called"))
    assert install_detectron2.main([]) == 0
    assert "Keeping Detectron2 0.6 in X" in capsys.readouterr().out


def test_installed_detectron2_is_found():
    where, problem = install_detectron2.installed_detectron2()
    assert problem is None and where.startswith("0.6 in ")


@pytest.mark.parametrize(("there", "expected"), [(0, []), (1, ["opencv-python-headless"])])
def test_opencv_is_added_where_there_is_none(monkeypatch, there, expected):
    installed = []

    def pip(*arguments, env=None):
        installed.append(arguments[-1])
        return subprocess.CompletedProcess([], 0, stdout="", stderr="")

    answer = subprocess.CompletedProcess([], there, stdout="", stderr="")
    monkeypatch.setattr(install_detectron2, "run_python", lambda code: answer)
    monkeypatch.setattr(install_detectron2, "installed_detectron2", lambda: ("0.6 in X", None))
    monkeypatch.setattr(install_detectron2, "pip", pip)
    install_detectron2.install("a.whl")
    assert installed == [*expected, "a.whl"]


def test_a_wrong_command_line_is_told_in_one_line(capsys):
    assert install_detectron2.main(["--from-git", "--wheel-dir", "x"]) == 2
    assert capsys.readouterr().err.startswith("error: --wheel-dir keeps the v0.6 wheel")
    assert install_detectron2.main(["--foo"]) == 2
    assert capsys.readouterr().err.startswith("error: unrecognized arguments: --foo (see glip")
