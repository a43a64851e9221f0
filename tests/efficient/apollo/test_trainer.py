"""Inside transformers' Trainer: both ways to hand it an optimizer, and resuming from its checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments

from papertrial.efficient.apollo import Apollo, LayerwiseSteps, param_groups

TOKENS = torch.randint(0, 256, (24, 16), generator=torch.Generator().manual_seed(0))
DATA = [{"input_ids": row, "labels": row} for row in TOKENS]


def arguments(folder, **changes):
    settings = {
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "save_steps": 3,
        "learning_rate": 0.01,
        "report_to": [],
        "disable_tqdm": True,
        "logging_strategy": "no",
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "max_grad_norm": 0.0,
        "seed": 3,
    }
    return TrainingArguments(output_dir=str(folder), **(settings | changes))


def apollo_groups(model):
    return param_groups(model, rank=4, scale=2.0)


def trainer(model, folder, how, **changes):
    options = {"lr": 0.01, "update_proj_gap": 2}
    if how == "class":
        given = {"optimizer_cls_and_kwargs": (Apollo, {"params": apollo_groups(model), **options})}
    else:
        optimizer = Apollo(apollo_groups(model), **options)
        if how == "layerwise":
            LayerwiseSteps(optimizer)
        given = {"optimizers": (optimizer, LambdaLR(optimizer, lambda step: 1 - step / 6))}
    return Trainer(model=model, args=arguments(folder, **changes), train_dataset=DATA, **given)


@pytest.mark.parametrize("how", ["class", "instance", "layerwise"])
def test_trainer_trains_and_resumes_to_the_bit(how, tiny_llama, tmp_path):
    whole = tiny_llama()
    trainer(whole, tmp_path, how).train()
    assert not torch.equal(whole.lm_head.weight, tiny_llama().lm_head.weight)

    resumed = tiny_llama()
    again = trainer(resumed, tmp_path, how)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert again.state.global_step == 6
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_both_ways_give_the_same_weights(tiny_llama, tmp_path):
    models = tiny_llama(), tiny_llama()
    trainer(models[0], tmp_path / "class", "class", lr_scheduler_type="constant").train()
    optimizer = Apollo(apollo_groups(models[1]), lr=0.01, update_proj_gap=2)
    constant = LambdaLR(optimizer, lambda step: 1.0)
    Trainer(
        model=models[1],
        args=arguments(tmp_path / "instance"),
        train_dataset=DATA,
        optimizers=(optimizer, constant),
    ).train()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_layerwise_refuses_trainers_accumulation(tiny_llama, tmp_path):
    from papertrial.errors import BadInputError

    with pytest.raises(BadInputError, match="gradient accumulation 1"):
        trainer(tiny_llama(), tmp_path, "layerwise", gradient_accumulation_steps=2).train()
