"""How many labels a method needs: the few-shot benchmark, from pretend sky to curve and ratio.

Every method is given the same answers of the same simulated annotator and is measured on the same
frozen objects. What is compared with what stands in `config`.
"""

from tasks.few_shot.config import FewShotConfig, few_shot_config
from tasks.few_shot.report import FewShotReport, run_few_shot

__all__ = ["FewShotConfig", "FewShotReport", "few_shot_config", "run_few_shot"]
