"""The studies, one a module."""

from collections.abc import Mapping

from ..study import Study
from .adding import Adding
from .chung2014 import Chung2014
from .copy_memory import CopyMemory
from .mingru import MinGRUStudy
from .shakespeare import Shakespeare

#: All studies by name.
STUDIES: Mapping[str, Study] = {
    study.name: study for study in (Chung2014(), Adding(), CopyMemory(), Shakespeare(), MinGRUStudy())
}
