"""Weights of image towers that timm is to fetch, where it cannot."""

import pytest
import timm
from huggingface_hub.errors import LocalEntryNotFoundError

from glipv2_d2.errors import CheckpointError
from glipv2_d2.modeling.backbone import ClipResNetBackbone, CoSwinBackbone, SwinBackbone

ERRORS = (
    OSError("No space left on device"),
    LocalEntryNotFoundError("The hub cannot be reached.\nMore of it."),
    RuntimeError("Invalid pretrained tag (x) for the model."),
)


@pytest.fixture
def offline(monkeypatch):
    """Call it with the error that timm shall end in when it is asked for weights."""
    build = timm.create_model

    def fail_with(error):
        def create_model(name, pretrained=False, **options):
            if pretrained:
                raise error
            return build(name, **options)

        monkeypatch.setattr(timm, "create_model", create_model)

    return fail_with


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("tower", "name"),
    [
        (SwinBackbone, "swin_tiny_patch4_window7_224"),
        (CoSwinBackbone, "swin_tiny_patch4_window7_224"),
        (ClipResNetBackbone, "resnet50_clip.openai"),
    ],
)
def test_one_error_that_says_what_to_do(offline, tower, name, error):
    offline(error)
    with pytest.raises(CheckpointError) as found:
        tower(pretrained=name)
    message = str(found.value)
    assert f"'{name}'" in message and "\n" not in message
    assert str(error).splitlines()[0].rstrip(".") in message
    assert "give a local file with model.backbone.bottom_up.pretrained=FILE" in message
