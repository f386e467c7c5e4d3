"""Few-shot methods: each turns a pool and a batch of episodes into logits (E, Q, n_way).

Add one by writing its file and its line here. ``needs`` says what the pool is: "features", float32 (N, D), or
"inputs", a ProductInputs.
"""

from __future__ import annotations

from fewshot_prod.methods.alpha_tim import AlphaTIM
from fewshot_prod.methods.am3 import AM3
from fewshot_prod.methods.anil import ANIL
from fewshot_prod.methods.baseline_plus_plus import BaselinePlusPlus
from fewshot_prod.methods.bd_cspn import BDCSPN
from fewshot_prod.methods.feat import FEAT
from fewshot_prod.methods.finetune_all import FinetuneAll
from fewshot_prod.methods.finetune_head import FinetuneHead
from fewshot_prod.methods.laplacian_shot import LaplacianShot
from fewshot_prod.methods.linear_probe import LinearProbe
from fewshot_prod.methods.maml import MAML, FirstOrderMAML
from fewshot_prod.methods.matching import Matching
from fewshot_prod.methods.meta_baseline import MetaBaseline
from fewshot_prod.methods.meta_sgd import MetaSGD
from fewshot_prod.methods.nearest_centroid import NearestCentroid
from fewshot_prod.methods.partial_distance import PartialDistance
from fewshot_prod.methods.proto_maml import ProtoMAML
from fewshot_prod.methods.prototypical import Prototypical
from fewshot_prod.methods.pt_map import PTMAP
from fewshot_prod.methods.relation import Relation
from fewshot_prod.methods.reptile import Reptile
from fewshot_prod.methods.ridge import Ridge
from fewshot_prod.methods.tim import TIM
from fewshot_prod.methods.transductive_finetuning import TransductiveFinetuning

METHODS = {
    "nearest_centroid": NearestCentroid,
    "partial_distance": PartialDistance,
    "prototypical": Prototypical,
    "matching": Matching,
    "meta_baseline": MetaBaseline,
    "relation": Relation,
    "feat": FEAT,
    "ridge": Ridge,
    "am3": AM3,
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
    "bd_cspn": BDCSPN,
    "laplacian_shot": LaplacianShot,
    "tim": TIM,
    "alpha_tim": AlphaTIM,
    "pt_map": PTMAP,
    "transductive_finetuning": TransductiveFinetuning,
}
