"""The graphs hold for sizes other than the traced one."""

import copy

import pytest
import torch
from torch.export.passes import move_to_device_pass

from glipv2_d2.errors import ExportError
from glipv2_d2.export.graphs import (
    CaptionPath,
    ImagePath,
    MaskPath,
    TextPath,
    export_image_path,
    export_text_path,
)
from glipv2_d2.modeling.fusion import DyHead
from tests.support.exported_model import (
    ODD_SIZES,
    SIZES,
    inputs,
    mask_inputs,
    padded,
    small_model,
)


@torch.no_grad()
def assert_same(program, path, size):
    found, expected = program(*inputs(*size)), path(*inputs(*size))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_fused_tower_with_offsets_from_memory(source_model, program, size):
    assert_same(program.module(), ImagePath(source_model), size)


@torch.no_grad()
@pytest.mark.parametrize("size", ODD_SIZES)
def test_a_size_that_the_backbone_does_not_divide_is_padded(source_model, program, size):
    """It must not be cut: a 200x300 image was answered as its 192x288 corner."""
    tensors = inputs(*size)
    expected = ImagePath(source_model)(*padded(*tensors))
    for found in (program.module()(*tensors), ImagePath(source_model)(*tensors)):
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_as_many_prompts_as_images(program):
    images, words, mask = inputs(2, 64, 96, 5)
    with pytest.raises(Exception, match=r"size\(\)\[0\]"):
        program.module()(images[:1], words, mask)


def test_the_model_is_left_as_it_was():
    model = small_model().train()
    model.backbone.eval()
    export_text_path(model)
    assert model.neck.training and model.head.training and not model.backbone.training


def test_nothing_stays_on_the_cpu_when_a_program_is_moved(program):
    moved = move_to_device_pass(copy.deepcopy(program), "meta").module()
    logits, deltas, centerness, words = moved(*(x.to("meta") for x in inputs(1, 64, 96, 5)))
    positions = 8 * 12 + 4 * 6 + 2 * 3
    assert logits.device.type == "meta" and logits.shape == (1, positions, 5)
    assert deltas.shape == (1, positions, 4) and centerness.shape == (1, positions)
    assert words.shape == (1, 5, 32)


def test_text(source_model, exported):
    path = TextPath(source_model)
    program = torch.export.load(exported / "text.pt2").module()
    for batch, tokens in ((1, 3), (3, 30)):
        ids = torch.randint(1000, 2000, (batch, tokens), generator=torch.Generator().manual_seed(0))
        mask = torch.ones(batch, tokens, dtype=torch.bool)
        mask[0, tokens - 1] = False
        with torch.no_grad():
            torch.testing.assert_close(program(ids, mask), path(ids, mask))


@torch.no_grad()
@pytest.mark.parametrize("boxes", [1, 5])
def test_masks_are_the_head_s_whatever_the_level_of_a_box(telling, mask_program, boxes):
    words, regions, rows, tokens, *levels = mask_inputs(boxes)
    found = mask_program.module()(words, regions, rows, tokens, *levels)
    torch.testing.assert_close(
        found, MaskPath(telling)(words, regions, rows, tokens, *levels), atol=1e-5, rtol=1e-4
    )
    of_image = [rows == i for i in range(2)]
    expected = telling.mask_head.logits(
        levels, words, [regions[own] for own in of_image], [tokens[own] for own in of_image]
    )
    order = torch.cat([own.nonzero()[:, 0] for own in of_image])
    torch.testing.assert_close(found[order], expected, atol=1e-5, rtol=1e-4)
    assert boxes == 1 or expected.std() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1, 1, 40), (2, 3, 5, 77), (3, 1, 12, 500)])
def test_next_words_of_any_number_of_texts(telling, exported_telling, size):
    images, texts, tokens, positions = size
    generator = torch.Generator().manual_seed(0)
    read = torch.randn(1, images, positions, 32, generator=generator)
    ids = torch.randint(1000, 2000, (images, texts, tokens), generator=generator)
    program = torch.export.load(exported_telling / "caption.pt2").module()
    expected = CaptionPath(telling)(read, ids)
    assert expected.shape == (images, texts, 30522)
    torch.testing.assert_close(program(read, ids), expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_tower_without_language_and_resized_offsets():
    model = small_model()
    model.neck = DyHead(num_blocks=1, channels=32).eval()
    for parameter in model.neck.parameters():  # offsets that matter
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) / 9)
    program = export_image_path(model).module()
    for size in SIZES[:3]:
        assert_same(program, ImagePath(model), size)


def test_an_old_pytorch_is_named(source_model, monkeypatch):
    import torch.fx.experimental._config as config

    monkeypatch.delattr(torch.compiler, "is_exporting")
    assert hasattr(config, "backed_size_oblivious")
    with pytest.raises(ExportError, match="newer PyTorch than"):
        export_image_path(source_model)
