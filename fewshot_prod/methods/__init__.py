"""Few-shot methods: each turns a pool and a batch of episodes into logits (E, Q, n_way).

Add one by writing its file and its line here. ``needs`` says what the pool is: "features", float32 (N, D), or
"inputs", a ProductInputs.
"""

from __future__ import annotations

from fewshot_prod.methods.anil import ANIL
from fewshot_prod.methods.baseline_plus_plus import BaselinePlusPlus
from fewshot_prod.methods.feat import FEAT
from fewshot_prod.methods.finetune_all import FinetuneAll
from fewshot_prod.methods.finetune_head import FinetuneHead
from fewshot_prod.methods.linear_probe import LinearProbe
from fewshot_prod.methods.maml import MAML, FirstOrderMAML
from fewshot_prod.methods.matching import Matching
from fewshot_prod.methods.meta_baseline import MetaBaseline
from fewshot_prod.methods.meta_sgd import MetaSGD
from fewshot_prod.methods.nearest_centroid import NearestCentroid
from fewshot_prod.methods.proto_maml import ProtoMAML
from fewshot_prod.methods.prototypical import Prototypical
from fewshot_prod.methods.relation import Relation
from fewshot_prod.methods.reptile import Reptile
from fewshot_prod.methods.ridge import Ridge

METHODS = {
    "nearest_centroid": NearestCentroid,
    "prototypical": Prototypical,
    "matching": Matching,
    "meta_baseline": MetaBaseline,
    "relation": Relation,
    "feat": FEAT,
    "ridge": Ridge,
    "maml": MAML,
    "maml_first_order": FirstOrderMAML,
    "proto_maml": ProtoMAML,
    "anil": ANIL,
    "reptile": Reptile,
    "meta_sgd": MetaSGD,
    "linear_probe": LinearProbe,
    "finetune_head": FinetuneHead,
    "baseline_plus_plus": BaselinePlusPlus,
    "finetune_all": FinetuneAll,
}
