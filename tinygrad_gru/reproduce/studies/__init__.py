"""The studies, one a module."""

from collections.abc import Mapping

from ..study import Study
from .chung2014 import Chung2014

#: All studies by name.
STUDIES: Mapping[str, Study] = {study.name: study for study in (Chung2014(),)}
