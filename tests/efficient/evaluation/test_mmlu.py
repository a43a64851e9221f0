from __future__ import annotations

import pytest
import torch

from papertrial.data.tokens import byte_tokenizer
from papertrial.efficient.evaluation import MmluRow, MmluSubject, evaluate_mmlu, load_mmlu
from papertrial.efficient.evaluation.mmlu import letter_prompt, likelihood_prompt
from papertrial.errors import BadInputError
from papertrial.models import load_causal_lm

DEV = MmluRow("What is 1+1?", ("0", "1", "2", "3"), "C")
TEST = MmluRow(" What is 2+2? ", ("1", "2", "None", "4"), "D")
SUBJECT = MmluSubject("abstract_algebra", (DEV, DEV), (TEST, TEST))


@pytest.fixture(scope="module")
def byte_model():
    model = load_causal_lm("tiny-llama", vocab_size=258, hidden_size=32, num_hidden_layers=1, seed=3)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(8)
    return model


def test_prompts_to_the_character():
    shown = "What is 1+1?\nA. 0\nB. 1\nC. 2\nD. 3\nAnswer: C\n\n"
    assert letter_prompt(SUBJECT, TEST, 1) == (
        "The following are multiple choice questions (with answers) about  abstract algebra.\n\n"
        + shown
        + " What is 2+2? \nA. 1\nB. 2\nC. None\nD. 4\nAnswer:"
    )
    assert likelihood_prompt(SUBJECT, TEST, 2) == (
        "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
        + shown
        + shown
        + "What is 2+2?\nA. 1\nB. 2\nC. None\nD. 4\nAnswer:"
    )


def test_letters_are_compared_at_the_final_position(byte_model):
    scores = evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT], shots=2)
    ids = list(letter_prompt(SUBJECT, TEST, 2).encode())
    with torch.no_grad():
        final = byte_model(input_ids=torch.tensor([ids])).logits[0, -1]
    pick = max("ABCD", key=lambda letter: float(final[ord(letter)]))
    assert scores.picks == {"abstract_algebra": (pick, pick)}
    assert scores.accuracy == float(pick == "D")
    assert scores.fewest_shots == 2


def test_examples_are_dropped_from_the_end_until_the_prompt_fits(byte_model):
    room = len(letter_prompt(SUBJECT, TEST, 1).encode())
    assert evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT], shots=2, length=room).fewest_shots == 1
    assert evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT], shots=2, length=room - 1).fewest_shots == 0
    assert evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT], shots=2, length=5).fewest_shots == 0


def test_accuracy_is_over_questions_not_subjects(byte_model):
    right = evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT], shots=0).picks["abstract_algebra"][0]
    hit, miss = (
        MmluRow(TEST.question, TEST.choices, right),
        MmluRow(TEST.question, TEST.choices, "ABCD"[right == "A"]),
    )
    subjects = [
        MmluSubject("abstract_algebra", (), (hit,)),
        MmluSubject("abstract_algebra_", (), (miss,) * 3),
    ]
    scores = evaluate_mmlu(byte_model, byte_tokenizer(), subjects, shots=0)
    assert scores.by_subject["abstract_algebra"] == 1
    wanted = (1 + 3 * scores.by_subject["abstract_algebra_"]) / 4
    assert scores.accuracy == wanted


def test_the_official_files(shared_data, byte_model):
    subjects = load_mmlu(shared_data("qwen3_quantization") / "mmlu")
    assert len(subjects) == 57
    assert sum(len(subject.examples) for subject in subjects) == 285
    assert sum(len(subject.questions) for subject in subjects) == 1140
    cells = [cell for one in subjects for row in one.questions for cell in row.choices]
    assert "nan" not in cells  # pandas' defaults would make it of "None" and "NA"
    few = load_mmlu(shared_data("qwen3_quantization") / "mmlu", ("anatomy", "virology"))
    cut = [MmluSubject(one.name, one.examples, one.questions[:4]) for one in few]
    for rule in ("letter-logits", "log-likelihood"):
        scores = evaluate_mmlu(byte_model, byte_tokenizer(), cut, rule=rule, shots=1, length=1500)
        assert 0 <= scores.accuracy <= 1
        assert {name: len(picks) for name, picks in scores.picks.items()} == {"anatomy": 4, "virology": 4}


def test_none_and_na_stay_text(tmp_path):
    for part in ("dev", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"logic_{part}.csv").write_text('"Which, if any?",None,NA,"a ""b""",nan,A\n')
    (subject,) = load_mmlu(tmp_path)
    assert subject.questions[0].choices == ("None", "NA", 'a "b"', "nan")


def test_bad_files(tmp_path):
    with pytest.raises(BadInputError, match="no MMLU folder"):
        load_mmlu(tmp_path)
    (tmp_path / "test").mkdir()
    test = tmp_path / "test" / "logic_test.csv"
    test.write_text("q,1,2,3,4,E\n")
    with pytest.raises(BadInputError, match="did you mean logic"):
        load_mmlu(tmp_path, ("logics",))
    with pytest.raises(BadInputError, match=r"there is no .*logic_dev.csv"):
        load_mmlu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "logic_dev.csv").write_text("q,1,2,3,4,A\n")
    with pytest.raises(BadInputError, match="row 1: the answer must be A, B, C or D, got 'E'"):
        load_mmlu(tmp_path)
    test.write_text("q,1,2,3,A\n")
    with pytest.raises(BadInputError, match="six cells are needed, got 5"):
        load_mmlu(tmp_path)
    test.write_text("")
    with pytest.raises(BadInputError, match="holds no row"):
        load_mmlu(tmp_path)


def test_bad_settings(byte_model):
    with pytest.raises(BadInputError, match="unknown rule 'letters'"):
        evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT], rule="letters")
    with pytest.raises(
        BadInputError, match="shots must be at most 2, the examples of abstract_algebra, got 5"
    ):
        evaluate_mmlu(byte_model, byte_tokenizer(), [SUBJECT])
    with pytest.raises(BadInputError, match="no subjects"):
        evaluate_mmlu(byte_model, byte_tokenizer(), [])
