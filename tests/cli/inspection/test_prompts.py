"""Prompts in words: their phrases, boxes and tokens."""

from glipv2_d2.cli.inspection import (
    describe_prompt,
    evaluation_prompts,
    training_prompt,
)
from glipv2_d2.data import load_records
from glipv2_d2.language import Prompt


def test_prompts_in_words(datasets, tokenizer):
    record = load_records(datasets[1])[3]
    prompt, boxes = training_prompt(record, tokenizer)
    assert describe_prompt(prompt, tokenizer, boxes) == [
        "grounding prompt, 2 phrases, 10 of 256 tokens: 'the star 3 left of the blue ring'",
        "  0: 'star': 1 boxes, tokens 2: star",
        "  1: 'blue ring': 1 boxes, tokens 7-8: blue ring",
    ]
    record = load_records(datasets[0])[1]
    prompts = evaluation_prompts(record, tokenizer, chunk_size=2)
    assert [p.names for p in prompts] == [("cat", "caterpillar"), ("cat food",)]
    prompt = Prompt.from_caption("a cat or two cats", [[[2, 5], [13, 17]]])
    assert describe_prompt(prompt, tokenizer)[1] == "  0: 'cat cats': tokens 2, 5: cat cats"
    many = Prompt.from_classes(["cat", "dog", "cow", "pig"])
    lines = describe_prompt(many, tokenizer, boxes=[0, 0, 0, 2], most=2)
    assert len(lines) == 5 and lines[3].startswith("  3: 'pig': 2 boxes")
    assert lines[4] == "  ... and 1 more"


def test_prompts_of_questions_and_captions(datasets, tokenizer):
    record = load_records(datasets[1])[3]
    del record["annotations"]
    asked = {**record, "task": "question", "caption": "is it? [MASK]", "answers": {"yes": 1.0}}
    prompt, boxes = training_prompt(asked, tokenizer)
    assert (prompt.kind, boxes) == ("question", [])
    answer = Prompt.from_caption("is it? [MASK]", [[(7, 13)]], kind="question")
    assert describe_prompt(answer, tokenizer) == [
        "question prompt, 1 phrases, 6 of 256 tokens: 'is it? [MASK]'",
        "  0: '[MASK]': tokens 4: [MASK]",
    ]
    unwritten = {key: value for key, value in record.items() if key != "caption"}
    (prompt,) = evaluation_prompts({**unwritten, "task": "caption"}, tokenizer)
    assert prompt == Prompt.unwritten()
    assert describe_prompt(prompt, tokenizer) == ["caption prompt, 0 phrases, 2 of 256 tokens: ''"]
