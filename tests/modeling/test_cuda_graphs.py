"""What CUDA graphs need of the model, on any device; that they play back: tests/test_devices.py."""

import copy
import pickle

import pytest
import torch

from glipv2_d2.modeling.blocks import is_watched
from glipv2_d2.modeling.cuda_graphs import CudaGraphs
from glipv2_d2.modeling.meta_arch.glip import GRAPH_TOKENS
from tests.support.tiny import lively, tiny_input, tiny_model


def detected(model):
    batch = [tiny_input(names=("cat", "a big old dog")), tiny_input(names=("kite", "cat"), seed=1)]
    with torch.no_grad():
        return [x["instances"] for x in model(batch)]


def test_prompts_are_padded_to_few_lengths_and_nothing_else_changes(monkeypatch):
    model = lively(tiny_model()).eval()
    expected = detected(model)
    lengths = []

    def run(self, module, function, *inputs):
        lengths.append({x.shape[1] for x in inputs if x.ndim < 4})
        return list(function(*inputs))

    monkeypatch.setattr(CudaGraphs, "usable", lambda *_: True)
    monkeypatch.setattr(CudaGraphs, "run", run)
    found = detected(model)
    assert lengths == [set(), {GRAPH_TOKENS}, {GRAPH_TOKENS}]  # backbone, neck, head
    for x, y in zip(found, expected, strict=True):
        assert len(x) == len(y) > 5
        # Sums over more terms, which are 0.
        torch.testing.assert_close(x.scores, y.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(x.pred_boxes.tensor, y.pred_boxes.tensor, atol=1e-3, rtol=0)
        assert x.pred_classes.tolist() == y.pred_classes.tolist()


def test_nothing_is_recorded_on_cpu_or_where_somebody_watches():
    model = tiny_model().eval()
    model.graphs.capacity = 8
    cuda = torch.device("cuda")
    with torch.no_grad():
        assert not model.graphs.usable(model.neck, torch.device("cpu"))
        assert not CudaGraphs(0).usable(model.neck, cuda)
    assert not model.graphs.usable(model.neck, cuda)  # gradients
    assert not is_watched(model.backbone)
    handle = model.neck.blocks[0].register_forward_hook(lambda *_: None)
    assert is_watched(model.neck.blocks[0])
    handle.remove()
    assert not is_watched(model.neck.blocks[0])


def test_a_model_with_graphs_is_copied_and_pickled():
    model = tiny_model()
    model.graphs.capacity = 8
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.graphs.capacity == 8 and len(other.graphs) == 0


class Graph:
    """In place of a recorded one: the inputs, and a shape's number."""

    made = 0

    def __init__(self, function, inputs, pool):
        Graph.made += 1

    def play(self, inputs):
        return [inputs[0] + 1]


def test_a_shape_is_recorded_when_it_comes_again_and_the_oldest_goes(monkeypatch):
    graphs, module = CudaGraphs(2), torch.nn.Linear(2, 2)
    monkeypatch.setattr(CudaGraphs, "usable", lambda *_: True)
    monkeypatch.setattr("glipv2_d2.modeling.cuda_graphs._Recorded", Graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    calls = []

    def function(x):
        calls.append(len(x))
        return [x]

    def ask(length):
        before = len(calls)
        graphs.run(module, function, torch.zeros(length))
        return "plain" if len(calls) > before else "graph"

    assert [ask(3), ask(4), ask(3), ask(4), ask(3)] == ["plain", "plain"] + 3 * ["graph"]
    assert len(graphs) == 2 == Graph.made
    assert [ask(5), ask(5)] == ["plain", "graph"] and len(graphs) == 2
    assert [ask(3), ask(4)] == ["graph", "plain"]  # 4 was the oldest
    with torch.no_grad():
        module.weight.data = module.weight.data.clone()  # elsewhere in memory
    assert ask(3) == "plain"


@pytest.mark.parametrize("capacity", [1, 3])
def test_shapes_that_never_come_again_are_forgotten(monkeypatch, capacity):
    graphs = CudaGraphs(capacity)
    monkeypatch.setattr(CudaGraphs, "usable", lambda *_: True)
    for length in range(100):
        graphs.run(torch.nn.Identity(), lambda x: [x], torch.zeros(length))
    assert len(graphs._seen) == 16 * capacity
