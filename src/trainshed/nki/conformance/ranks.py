"""Cases of several ranks, which the library's suite runs on hardware only, run as ranks of virtual cores.

The suite's simulation mode calls a simulator once per case; its cases of collectives have inputs and results of
each rank instead. Results are left where the suite's validation looks for those of each rank.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from trainshed.nki.run import Kernel
from trainshed.nki.world import simulate_ranks


def inputs_of_ranks(case: Any, ranks: int) -> list[dict[str, Any]]:
    """Each rank's inputs by the kernel's parameter names."""
    given = case.kernel_input or {}
    of_rank = [given.for_rank(rank) if hasattr(given, "for_rank") else given for rank in range(ranks)]
    return [{name.removesuffix(".must_alias_input"): value for name, value in one.items()} for one in of_rank]


def run_ranks(case: Any, ranks: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    """Each rank's outputs by the names of the references, for one ``KernelArgs`` of the suite."""
    from test.utils.common_dataclasses import normalize_golden_output

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
        outputs.append({name: np.asarray(value, dtype=like.dtype) for (name, like), value in pairs})
    return outputs


def install() -> None:
    """Let the suite's orchestrator run cases of several ranks."""
    from test.utils.common_dataclasses import INF_ARTIFACT_DIR_NAME
    from test.utils.exceptions import InferenceException
    from test.utils.test_orchestrator import Orchestrator

    run_one = Orchestrator._run_simulator_inference

    def run(self: Any, case: Any) -> Any:
        ranks = case.inference_args.collective_ranks
        if ranks == 1:
            return run_one(self, case)
        folder = os.path.join(self.fs_config.artifacts_output_directory_path, INF_ARTIFACT_DIR_NAME)
        try:
            for rank, outputs in enumerate(run_ranks(case, ranks)):
                place = os.path.join(folder, f"output_worker_{rank}")
                os.makedirs(place, exist_ok=True)
                for name, values in outputs.items():
                    values.tofile(os.path.join(place, f"{name}.bin"))
        except Exception as error:
            raise InferenceException(str(error)) from error
        return folder

    Orchestrator._run_simulator_inference = run
