"""One way to get a model: a toy one by name, a local folder, or a hub id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging

from papertrial.errors import BadInputError, unknown
from papertrial.hub import hub_errors, hub_has
from papertrial.models.devices import resolve_device, resolve_dtype
from papertrial.models.tiny import TINY_MODELS, tiny_model

_GENERIC_TOKENIZERS = ("PreTrainedTokenizerFast", "TokenizersBackend")
_NEW_HEADS = ("score.", "classifier.")  # what transformers calls the head of a token classifier


def load_causal_lm(
    name: str,
    *,
    vocab_size: int | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    **config_overrides: Any,
) -> PreTrainedModel:
    """Return a causal language model: `tiny-…` built from its config class, or loaded from path or hub.

    Args:
        name: a toy model ("tiny-llama"), a folder written by `save_pretrained`, or a hub id.
        vocab_size: rows of a toy model's embedding. Refused for a loaded model.
        dtype: number format of the weights ("float32", "bfloat16", "float16", "float64").
        device: where the model goes ("cpu", "cuda", "cuda:1", "mps").
        seed: draws a toy model's weights; the same seed gives the same weights on every device. The
            global random state is left as it was.
        config_overrides: settings of a toy model's configuration (`hidden_size=64`). Refused for a
            loaded model.

    Raises:
        BadInputError: unknown name, missing folder, no safetensors weights, no network, a dtype or device
            that is not there, or a checkpoint that lacks some of the weights.
    """
    number_format, place = resolve_dtype(dtype), resolve_device(device)
    if _is_tiny(name):
        entry = tiny_model(name)
        config = entry.config(vocab_size, **config_overrides)
        return _place(_build(entry.causal_lm, config, seed), place, number_format)
    given = {"vocab_size": vocab_size, **config_overrides} if vocab_size is not None else config_overrides
    _refuse_overrides(name, given)
    model = _from_pretrained(AutoModelForCausalLM, name, number_format, seed)
    return _place(model, place, number_format)


def load_token_classifier(
    name: str,
    num_labels: int,
    *,
    vocab_size: int | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    **config_overrides: Any,
) -> PreTrainedModel:
    """Return a token classifier with `num_labels` outputs a token; arguments as in `load_causal_lm`.

    A language model's checkpoint has no classification head: the head is then drawn from `seed`, and
    everything else must be in the checkpoint. In training, transformers drops out a tenth of the head's
    inputs; `classifier_dropout=0.0` switches that off in a toy model.

    Raises:
        BadInputError: as `load_causal_lm`; also `num_labels` below 1, or an architecture without a token
            classification class.
    """
    if num_labels < 1:
        raise BadInputError(f"num_labels must be at least 1, got {num_labels}")
    number_format, place = resolve_dtype(dtype), resolve_device(device)
    if _is_tiny(name):
        entry = tiny_model(name)
        if entry.token_classifier is None:
            able = ", ".join(key for key, other in TINY_MODELS.items() if other.token_classifier)
            raise BadInputError(f"transformers has no token classifier for {name!r}; it has for: {able}")
        config = entry.config(vocab_size, **config_overrides)
        config.num_labels = num_labels
        return _place(_build(entry.token_classifier, config, seed), place, number_format)
    given = {"vocab_size": vocab_size, **config_overrides} if vocab_size is not None else config_overrides
    _refuse_overrides(name, given)
    model = _from_pretrained(
        AutoModelForTokenClassification, name, number_format, seed, new=_NEW_HEADS, num_labels=num_labels
    )
    return _place(model, place, number_format)


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub id.

    Raises:
        BadInputError: a toy model's name (it has none: train one), a missing folder, no tokenizer files,
            no network.
    """
    if _is_tiny(name):
        tiny_model(name)
        raise BadInputError(
            f"{name!r} has no tokenizer of its own; use papertrial.data.tokens.train_bpe or byte_tokenizer"
        )
    source, offline = _source(name, needs="tokenizer_config.json")
    try:
        # AutoTokenizer goes by the model's type and would turn a generic tokenizer beside a Qwen2 into a Qwen2's.
        saved = get_tokenizer_config(source, local_files_only=offline).get("tokenizer_class")
        kind: Any = PreTrainedTokenizerFast if saved in _GENERIC_TOKENIZERS else AutoTokenizer
        tokenizer = kind.from_pretrained(source, trust_remote_code=False, local_files_only=offline)
    except hub_errors(ValueError, KeyError) as problem:
        raise _not_loaded("tokenizer", name, problem) from problem
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise BadInputError(f"cannot load the tokenizer of {name!r}: transformers returned none")
    return tokenizer


def _is_tiny(name: str) -> bool:
    # A folder that happens to be called tiny-llama must not change what the name means: ./tiny-llama does.
    return name in TINY_MODELS or (name.startswith("tiny-") and not Path(name).is_dir())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` on the CPU inside the block, and leave the global random state as it was.

    Only the CPU's generator is seeded: `torch.manual_seed` would also reseed every CUDA device, which
    forking does not undo.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


def _build(model_class: type[PreTrainedModel], config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    with seeded(seed):
        try:
            return _with_loss(model_class(config)).eval()
        except (ValueError, KeyError, ZeroDivisionError, RuntimeError) as problem:
            reason = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
            raise BadInputError(f"{model_class.__name__} cannot be built: {reason}") from problem


def _source(name: str, needs: str) -> tuple[str, bool]:
    """Return where `name` is loaded from, and whether that must do without the network.

    A folder must hold the file it `needs`; a hub id must be on the hub, or in the cache where the hub
    cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / needs).is_file():
            raise BadInputError(f"{path} is no saved model: it has no {needs}")
        return str(path), True
    if path.is_file():
        raise BadInputError(f"{path} is a file; give the folder that save_pretrained wrote")
    if not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/"):
        siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        hint = f"; {unknown('folder', path.name, siblings)}" if siblings else ""
        raise BadInputError(f"there is no folder {name!r}{hint}")
    if hub_has(name, "model"):
        return name, False
    if not isinstance(try_to_load_from_cache(name, needs), str):
        raise BadInputError(
            f"{name!r} is no folder here and not in the cache, and the hub cannot be reached; "
            f"without a network use: {', '.join(TINY_MODELS)}"
        )
    return name, True


def _from_pretrained(
    auto_class: Any,
    name: str,
    dtype: torch.dtype,
    seed: int,
    new: tuple[str, ...] = (),
    **settings: Any,
) -> PreTrainedModel:
    """Load a model all of whose weights are in the checkpoint, but for those whose names start as `new`."""
    source, offline = _source(name, needs="config.json")
    if Path(source).is_dir() and not any(Path(source).glob("*.safetensors")):
        raise BadInputError(f"{source} has no safetensors weights; pickled weights are not loaded")
    try:
        with seeded(seed), _quietly():  # a head that the checkpoint lacks is drawn here
            model, info = auto_class.from_pretrained(
                source,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=offline,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to say below which they are, in one line
                **settings,
            )
    except hub_errors(SafetensorError, ValueError, KeyError, RuntimeError) as problem:
        raise _not_loaded("model", name, problem) from problem
    if info["mismatched_keys"]:
        key, saved, wanted = min(info["mismatched_keys"])
        raise BadInputError(
            f"the checkpoint {name!r} does not fit: its {key} is {tuple(saved)}, the model's {tuple(wanted)}"
        )
    lacking = sorted(key for key in info["missing_keys"] if not key.startswith(new))
    if lacking:
        shown = ", ".join(lacking[:3]) + (" …" if len(lacking) > 3 else "")
        raise BadInputError(f"the checkpoint {name!r} lacks {len(lacking)} of the model's weights: {shown}")
    return _with_loss(model).eval()


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from drawing bars and reports over papertrial's own; what matters is raised."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _refuse_overrides(name: str, given: dict[str, Any]) -> None:
    if given:
        raise BadInputError(
            f"{', '.join(sorted(given))} can be set for tiny models only; {name!r} is loaded as it was saved"
        )


def _not_loaded(what: str, name: str, problem: BaseException) -> BadInputError:
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return BadInputError(f"cannot load the {what} {name!r}: {lines[0]}")


def _place(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    torch.nn.Module.to(model, device, dtype)  # transformers wraps `to` in a way that hides its types
    return model


def _with_loss(model: PreTrainedModel) -> PreTrainedModel:
    """Name the loss of a language model whose class name does not (GPT2LMHeadModel): it would warn."""
    if model.loss_type is None and model.get_output_embeddings() is not None:
        model.loss_type = "ForCausalLM"
    return model
