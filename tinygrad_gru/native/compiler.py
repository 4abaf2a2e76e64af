"""Compiler: LLVM IR to object code for this processor, and object code to functions; importing it imports llvmlite."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import llvmlite
from llvmlite import binding as llvm

if llvm.llvm_version_info < (20,):  # before, pointers had types, and passes another interface
    raise ImportError(f"version {llvmlite.__version__} is too old: pip install tinygrad_gru[fast]")
llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


@lru_cache(maxsize=1)
def processor() -> tuple[str, str]:
    """The name and the features of this processor."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def is_wide() -> bool:
    """Whether the processor has 32 registers of 64 bytes."""
    return "+avx512f" in processor()[1].split(",")


def is_x86() -> bool:
    return llvm.get_default_triple().startswith("x86_64")


def versions() -> str:
    """Those of llvmlite and LLVM, and the system for which they make object code."""
    numbers = ".".join(map(str, llvm.llvm_version_info))
    return f"llvmlite {llvmlite.__version__}, LLVM {numbers}, {llvm.get_default_triple()}"


def machine() -> Any:
    name, features = processor()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=name, features=features, opt=3, jit=True)


def optimized(ir: str, target_machine: Any) -> Any:
    """The module of a text, after the passes of O3."""
    module = llvm.parse_assembly(ir)
    module.triple, module.data_layout = target_machine.triple, str(target_machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = True
    options.loop_interleaving = True
    builder = llvm.create_pass_builder(target_machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def object_code(ir: str) -> bytes:
    """The object code of a text."""
    target_machine = machine()
    return target_machine.emit_object(optimized(ir, target_machine))


class Library:
    """Object code in memory, for as long as this object lives."""

    def __init__(self, code: bytes):
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
        self.engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self.engine.finalize_object()

    def function(self, name: str) -> Any:
        """A function of an address, through ctypes, which releases the GIL."""
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.engine.get_function_address(name))
