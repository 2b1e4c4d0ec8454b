"""How the suite's own machinery meets virtual cores, where a simulator alone does not do.

Its simulation mode calls a simulator once per case; its cases of collectives, which it runs on hardware only, have
inputs and results of each rank instead. Their results are left where its validation looks for those of each rank.
"""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from trainshed.nki.conformance.draws import stabilized, uniform
from trainshed.nki.run import Kernel
from trainshed.nki.world import simulate_ranks

Array = np.ndarray[Any, Any]


def inputs_of_ranks(case: Any, ranks: int) -> list[dict[str, Any]]:
    """Each rank's inputs by the kernel's parameter names."""
    given = case.kernel_input or {}
    of_rank = [given.for_rank(rank) if hasattr(given, "for_rank") else given for rank in range(ranks)]
    return [{name.removesuffix(".must_alias_input"): value for name, value in one.items()} for one in of_rank]


def as_reference(value: Any, dtype: np.dtype[Any]) -> Array:
    """An output in the dtype of its reference; containers of a packed format keep their bits, as in a file."""
    array = np.asarray(value)
    return array.view(dtype) if array.dtype.names and array.dtype.itemsize == dtype.itemsize else array.astype(dtype)


def run_ranks(case: Any, ranks: int) -> list[dict[str, Array]]:
    """Each rank's outputs by the names of the references, for one ``KernelArgs`` of the suite."""
    normalize_golden_output = import_module("test.utils.common_dataclasses").normalize_golden_output
    kernel = case.kernel_func if isinstance(case.kernel_func, Kernel) else Kernel(case.kernel_func)
    version = case.compiler_input.platform_target.get_nc_gen()
    returned = simulate_ranks(
        kernel[case.compiler_input.logical_nc_config], inputs_of_ranks(case, ranks), target=version
    )
    outputs = []
    for rank, values in enumerate(returned):
        golden = normalize_golden_output(case.validation_args.golden_output, rank)
        arrays = values if isinstance(values, tuple | list) else [values]
        pairs = zip(golden.items(), arrays, strict=True)
        outputs.append({name: as_reference(value, like.dtype) for (name, like), value in pairs})
    return outputs


class Packed(np.ndarray[Any, Any]):
    """An array of a packed format: like the vendor's dtypes, and unlike NumPy's records, it is no plain number."""

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """As of any array, but never to a number."""
        if self.dtype.names and np.dtype(dtype) != self.dtype:
            raise TypeError(f"{self.dtype} holds four elements: cast it by neuron_dtypes.static_cast")
        return super().astype(dtype, *args, **kwargs)


def _numpy_with(module: Any, part: str, **content: Any) -> None:
    """Give one module of the suite a NumPy with other functions, in itself or in a ``part`` of it."""
    theirs = getattr(np, part) if part else np
    changed = ModuleType(theirs.__name__)
    changed.__dict__.update(vars(theirs), **content)
    if part:
        whole = ModuleType("numpy")
        whole.__dict__.update(vars(np), **{part: changed})
        changed = whole
    module.np = changed


def install() -> None:
    """Let the suite's orchestrator run cases of several ranks, and its validation unpack packed results."""
    subfolder = import_module("test.utils.common_dataclasses").INF_ARTIFACT_DIR_NAME
    inference_error = import_module("test.utils.exceptions").InferenceException
    validator = import_module("test.utils.output_validator").OutputValidator
    orchestrator = import_module("test.utils.test_orchestrator").Orchestrator
    setup = import_module("test.utils.simulation_setup")
    run_one = orchestrator._run_simulator_inference

    def run(self: Any, case: Any) -> Any:
        ranks = case.inference_args.collective_ranks
        if ranks == 1:
            return run_one(self, case)
        folder = os.path.join(self.fs_config.artifacts_output_directory_path, subfolder)
        try:
            for rank, outputs in enumerate(run_ranks(case, ranks)):
                place = os.path.join(folder, f"output_worker_{rank}")
                os.makedirs(place, exist_ok=True)
                for name, values in outputs.items():
                    values.tofile(os.path.join(place, f"{name}.bin"))
        except Exception as error:
            raise inference_error(str(error)) from error
        return folder

    read = validator.__read_all_output_tensors__

    def read_packed(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        found = read(self, *args, **kwargs)
        return {name: value.view(Packed) if value.dtype.names else value for name, value in found.items()}

    simulate = setup.simulate_kernel

    def simulate_one(case: Any) -> dict[str, Array]:
        os.environ["NKI_NC_VERSION"] = case.compiler_input.platform_target.get_nc_gen()
        if case.validation_args is None:
            raise ValueError("a simulated case needs validation_args")
        found = simulate(case.kernel_func, case.kernel_input or {}, case.compiler_input.logical_nc_config)
        golden = normalized(case.validation_args.golden_output)
        if len(found) != len(golden):
            raise RuntimeError(f"the kernel returned {len(found)} outputs; the case has {list(golden)}")
        return {
            name: as_reference(value, like.dtype) for (name, like), value in zip(golden.items(), found, strict=True)
        }

    normalized = import_module("test.utils.common_dataclasses").normalize_golden_output
    setup.__dict__["run_simulator_inference"] = simulate_one
    orchestrator._run_simulator_inference = run
    # Inputs are given to the simulator as they are: of their copies in files, gigabytes for MoE, nothing reads one.
    orchestrator.__dump_kernel_inputs__ = lambda _self, _folder, _case: {}
    validator.__read_all_output_tensors__ = read_packed
    # The reference product of MX operands as one matrix product: NumPy's loop takes minutes for MoE weights.
    _numpy_with(import_module("test.utils.mx_utils"), "", einsum=partial(np.einsum, optimize=True))
    experts = import_module("test.integration.nkilib.core.moe.moe_cte.test_moe_cte_common")
    _numpy_with(experts, "random", uniform=uniform)
    generators = import_module("test.integration.nkilib.utils.tensor_generators")
    generators.__dict__["generate_stabilized_mx_data"] = stabilized(generators)
