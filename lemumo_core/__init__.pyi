from lemumo_core.api import finetune as finetune
from lemumo_core.api import load as load
from lemumo_core.api import pretrain as pretrain
from lemumo_core.frame import Frame as Frame
from lemumo_core.train.finetune.config import FinetuneConfig as FinetuneConfig
from lemumo_core.train.pretrain.config import PretrainConfig as PretrainConfig
