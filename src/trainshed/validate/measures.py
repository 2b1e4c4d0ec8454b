"""How each claim is tried: functions from a claim's data to what the workload model finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainshed.core import Evidence, UserError
from trainshed.hardware import System
from trainshed.validate.lab import CHIPS, ISL, OSL, Lab, eight_bit


@dataclass(frozen=True, kw_only=True)
class Found:
    """What came out: one value per way to read the claim, and how it was got."""

    values: Mapping[str, float]
    """Reading → value in the claim's unit."""
    how: str
    cannot: str = ""
    """Why it cannot be tested, whatever the values say."""
    evidence: Evidence | None = field(default=None)


Measure = Callable[[Lab, Mapping[str, Any]], Found]


def peak(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Peak FLOP/s of whole UltraServers."""
    new, old = lab.system(claim["subject"]), lab.system(claim["baseline"])
    ratio = new.ultraserver_chips / old.ultraserver_chips
    values = {
        label: ratio * float(new.chip.flops[a].value) / float(old.chip.flops[b].value)
        for label, a, b in (
            ("8-bit", eight_bit(new.chip), eight_bit(old.chip)), ("bf16", "bf16", "bf16"), ("fp32", "fp32", "fp32")
        )
    }  # fmt: skip
    return Found(values=values, how="ratio of two data-sheet numbers: chips x peak FLOP/s; no workload")


def memory_capacity(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """HBM bytes of whole UltraServers."""
    return _sheet(lab, claim, "hbm_capacity", "chips x HBM capacity")


def memory_bandwidth(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """HBM bytes per second of whole UltraServers."""
    return _sheet(lab, claim, "hbm_bandwidth", "chips x HBM bandwidth")


def _sheet(lab: Lab, claim: Mapping[str, Any], name: str, how: str) -> Found:
    new, old = lab.system(claim["subject"]), lab.system(claim["baseline"])
    value = new.ultraserver_chips * float(getattr(new.chip, name).value)
    value /= old.ultraserver_chips * float(getattr(old.chip, name).value)
    return Found(values={"UltraServer": value}, how=f"ratio of two data-sheet numbers: {how}; no workload")


def chips(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Chips of one UltraServer."""
    system = lab.system(claim["subject"])
    return Found(values={system.title: float(system.ultraserver_chips)}, how="data sheet; no workload")


def training_speed(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Tokens per second of as many UltraServers of both kinds, the fastest plan on each."""
    values: dict[str, float] = {}
    told = []
    for model in claim["models"]:
        for narrow in (False, True):
            runs = []
            for name in (claim["subject"], claim["baseline"]):
                system = lab.system(name)
                dtype = eight_bit(system.chip) if narrow else "bf16"
                runs.append(lab.train(model, name, claim["servers"] * system.ultraserver_chips, dtype))
            label = f"{model} {'8-bit' if narrow else 'bf16'}"
            values[label] = runs[0].tokens_per_s / runs[1].tokens_per_s
            told.append(f"{label}: {runs[0].plan} against {runs[1].plan}")
    how = f"training step of {claim['servers']} UltraServers of each kind, best plan on each; {'; '.join(told)}"
    return Found(values=values, how=how, evidence=_training(lab, claim, claim["models"][0]))


def serving_speed(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Output tokens per second of one UltraServer of each kind at the same interactivity."""
    names = (claim["subject"], claim["baseline"])
    values: dict[str, float] = {}
    for model in claim["models"]:
        sizes = {n: lab.system(n).ultraserver_chips for n in names}
        best = [lab.best(model, n, claim["tpot_s"], sizes[n], narrow=True) for n in names]
        if best[0] and best[1]:
            values[model] = best[0].tokens_per_s / best[1].tokens_per_s
    how = (
        f"output tokens per second of one UltraServer, {_requests()}, at most {1e3 * claim['tpot_s']:g} ms per token, "
        "best plan and engine on each, 8-bit products"
    )
    return Found(values=values, how=how, evidence=_serving(lab, claim, claim["models"][0]))


def cluster_scale(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """A training step on as many UltraServers as make a million chips."""
    system = lab.system(claim["subject"])
    count = claim["servers"] * system.ultraserver_chips
    one, all_ = (lab.train(claim["model"], claim["subject"], n, "bf16") for n in (16 * system.ultraserver_chips, count))
    how = (
        f"{count:,} chips against the {claim['previous_chips']:,} of the last generation: data sheet. On them "
        f"{claim['model']} trains {all_.tokens_per_s:,.0f} tokens/s, MFU {all_.mfu:.0%} "
        f"({one.mfu:.0%} on 16 UltraServers), {all_.plan}"
    )
    values = {"chips in one job": count / claim["previous_chips"]}
    return Found(values=values, how=how, evidence=_training(lab, claim, claim["model"]))


def work_per_joule(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Tokens per joule of chips, new over old: each at its TDP, or by what its activity takes."""
    systems = [lab.system(claim[s]) for s in ("subject", "baseline")]
    trained = [lab.train("llama-3.1-405b", s.name, 16 * s.ultraserver_chips, eight_bit(s.chip)) for s in systems]
    served = [o for s in systems if (o := lab.best("gpt-oss-120b", s.name, 0.05))]
    names = ("training llama-3.1-405b, 8-bit", "serving gpt-oss-120b")
    if claim["power"] == "activity":
        joules = [t.joules_per_token for t in trained], [o.energy_per_token_j for o in served]
        values = {name: b / a for name, (a, b) in zip(names, joules, strict=True) if a and b}
        how = "energy per token of chips (idle power + activity x energy per action), hosts and switches"
    else:
        watts = [_watts(s, claim["power"]) for s in systems]
        rates = [t.per_chip for t in trained], [o.tokens_per_s_per_chip for o in served]
        values = {name: a / b * watts[1] / watts[0] for name, (a, b) in zip(names, rates, strict=True)}
        how = f"tokens per second and chip over the TDP: {watts[0]:,.0f} W against {watts[1]:,.0f} W"
    how = f"{how}; best plan on each; {_TIMES_ALONE}"
    return Found(values=values, how=how, evidence=_training(lab, claim, "llama-3.1-405b"))


def _watts(system: System, kind: str) -> float:
    """A chip's TDP as one of the sources states it."""
    stated = getattr(system.chip, kind) or system.chip.tdp
    if stated is None:
        raise UserError("no TDP is known", where=f"chip {system.chip.name}", value=None, expected="a chip that ships")
    return float(stated.value)


def tokens_per_chip(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Output tokens per second and chip at the same interactivity."""
    values = {}
    for way in lab.ways(claim["subject"]):
        for limit in claim["limits_s"]:
            new, old = (lab.most(claim["model"], name, limit, way) for name in (claim["subject"], claim["baseline"]))
            if new and old:
                label = f"{way.label}, at most {1e3 * limit:g} ms per token"
                values[label] = new.tokens_per_s_per_chip / old.tokens_per_s_per_chip
    how = f"tokens per second and chip of {CHIPS} chips each, {_requests()}, best plan and number of users on each"
    return Found(values=values, how=how, evidence=_serving(lab, claim, claim["model"]))


def response(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Time of a single user's whole answer on the fastest plan."""
    values, told = {}, []
    for way in lab.ways(claim["subject"]):
        new, old = (lab.fastest(claim["model"], name, way) for name in (claim["subject"], claim["baseline"]))
        values[way.label] = old.e2e_s / new.e2e_s
        plans = " against ".join(f"{o.plan} ({o.ttft_s:.3f} s + {1e3 * o.tpot_s:.2f} ms per token)" for o in (new, old))
        told.append(f"{way.label}: {plans}")
    how = f"one user on {CHIPS} chips, {_requests()}, time of the whole answer; {'; '.join(told)}"
    return Found(values=values, how=how, evidence=_serving(lab, claim, claim["model"]))


def tokens_per_megawatt(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Output tokens per joule of chips, hosts and switches at the same interactivity."""
    values: dict[str, float] = {}
    systems = [lab.system(claim[s]) for s in ("subject", "baseline")]
    beside = [sum(float(c.value) for c in (s.overhead.host, s.overhead.switch) if c is not None) for s in systems]
    for limit in claim["limits_s"]:
        best = [o for s in systems if (o := lab.best(claim["model"], s.name, limit))]
        if len(best) < len(systems):
            continue
        label = f"at most {1e3 * limit:g} ms per token"
        new, old = (o.energy_per_token_j for o in best)
        if new and old:
            values[f"{label}, energy by activity"] = old / new
        for kind in ("tdp", "tdp_alternative"):
            watts = [_watts(s, kind) for s in systems]
            each = [o.tokens_per_s_per_chip / (w + b) for o, w, b in zip(best, watts, beside, strict=True)]
            values[f"{label}, chips of {watts[0]:,.0f} W"] = each[0] / each[1]
    how = (
        f"tokens per second over power of chips, hosts and switches, {CHIPS} chips each, {_requests()}; {_TIMES_ALONE}"
    )
    return Found(values=values, how=how, evidence=_serving(lab, claim, claim["model"]))


def cost_of_unpriced(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """The price per chip-hour at which the claim would hold, as nobody prints one."""
    own = lab.best(claim["model"], claim["subject"], claim["tpot_s"])
    told = []
    for rival in claim["rivals"]:
        other = lab.best(claim["model"], rival, claim["tpot_s"], lab.system(rival).instance_chips)
        price = lab.price(rival)
        if own is None or other is None or price is None:
            continue
        even = price * own.tokens_per_s_per_chip / other.tokens_per_s_per_chip
        told.append(f"{even * (1 - claim['claimed']):.2f} USD per chip-hour against {rival} (equal cost at {even:.2f})")
    how = (
        f"{claim['model']}, {_requests()}, at most {1e3 * claim['tpot_s']:g} ms per token, best plan, engine and "
        "product dtype on each"
    )
    cannot = "no price of a Trainium3 chip is published"
    if told:
        cannot += f"; it would hold below {', '.join(told)}"
    return Found(values={}, how=how, cannot=cannot, evidence=_serving(lab, claim, claim["model"]))


def cost_saved(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Share of a rival's dollars per token that is saved, at published prices."""
    values: dict[str, float] = {}
    for model in claim["models"]:
        for rival in claim["rivals"]:
            cost = [_dollars(lab, model, name, claim["tpot_s"]) for name in (claim["subject"], rival)]
            if cost[0] and cost[1]:
                values[f"{model} against {rival}"] = 1.0 - cost[0] / cost[1]
    how = f"USD per output token at published prices, {_requests()}, at most {1e3 * claim['tpot_s']:g} ms per token"
    return Found(values=values, how=how, evidence=_serving(lab, claim, claim["models"][0]))


def _dollars(lab: Lab, model: str, system: str, tpot_s: float) -> float | None:
    """USD per hour and token per second, of one instance."""
    best, price = lab.best(model, system, tpot_s, lab.system(system).instance_chips), lab.price(system)
    return None if best is None or price is None else price / best.tokens_per_s_per_chip


def music_cost_saved(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Share of a rival's dollars per second of music that is saved, with a public model of that kind."""
    cost = {}
    for name in (claim["subject"], *claim["rivals"]):
        price = lab.price(name)
        if price is not None:
            cost[name] = price / lab.generate(claim["model"], name, "audio_s_per_s")
    own = cost.get(claim["subject"])
    values = {f"against {r}": 1.0 - own / cost[r] for r in claim["rivals"] if own and r in cost}
    how = f"USD per second of sound at published prices, {claim['model']} (HummingLM is not public), best batch"
    return Found(values=values, how=how, evidence=_forward(lab, claim, claim["model"]))


def frames(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Frames per second and chip of public video models."""
    values, told = {}, []
    for model in claim["models"]:
        own = lab.generate(model, claim["subject"], "frames_per_s")
        for rival in claim["rivals"]:
            ratio = own / lab.generate(model, rival, "frames_per_s")
            values[f"{model} against {rival}"] = ratio
            if (price := lab.price(rival)) is not None:
                told.append(f"{model}: half the cost of {rival} below {0.5 * price * ratio:.2f} USD per chip-hour")
    how = f"frames per second and chip, published defaults of the models, best plan and batch; {'; '.join(told)}"
    return Found(values=values, how=how, evidence=_forward(lab, claim, claim["models"][0]))


def announced_compute(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """What a workload would gain if the announced ratio were true."""
    dtype = claim["dtype"]
    times = [lab.prefill_s("llama-3.3-70b", claim[s], dtype) for s in ("baseline", "subject")]
    new, old = (lab.system(claim[s]).chip.flops[dtype].value for s in ("subject", "baseline"))
    ratio = float(new) / float(old)
    how = f"prefill of llama-3.3-70b on {CHIPS} chips; the data-sheet ratio is {ratio:.2g}; {_INHERITED}"
    return Found(values={f"prefill in {dtype}": times[0] / times[1]}, how=how, cannot=_ANNOUNCED)


def announced_bandwidth(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """What decoding would gain if the announced ratio were true."""
    way = lab.ways(claim["subject"])[-1]
    new, old = (lab.fastest(claim["model"], claim[s], way) for s in ("subject", "baseline"))
    sheet = [float(lab.system(claim[s]).chip.hbm_bandwidth.value) for s in ("subject", "baseline")]
    how = f"one user of {claim['model']} on {CHIPS} chips; the data-sheet ratio is {sheet[0] / sheet[1]:.2g}"
    return Found(values={"decode": old.tpot_s / new.tpot_s}, how=how, cannot=_ANNOUNCED)


_ANNOUNCED = "the chip does not ship, and its data in the catalogue are this very claim"
_INHERITED = "engines beside TensorE are inherited from Trainium3 and hold the rest back"
#: What stands behind an answer in joules.
_TIMES_ALONE = "energies are estimates (nobody publishes a Trainium chip's power): the evidence is that of the times"


def mixed_rack(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Tokens per second and chip with prefill on the GPUs of the rack, against as many chips of one kind."""
    rack = lab.system(claim["subject"])
    count = sum(pool.chips for pool in rack.pools)
    mixed, alone = (lab.mixed(claim["model"], claim[s], count) for s in ("subject", "baseline"))
    kinds = ", ".join(f"{pool.chips} {pool.chip.title} ({pool.name})" for pool in rack.pools)
    how = (
        f"{claim['model']} on {kinds}, plan {mixed['plan']}, against {count} {lab.system(claim['baseline']).chip.title}"
    )
    ratio = mixed["tokens_per_s"] / alone["tokens_per_s"]
    return Found(
        values={"tokens per second": ratio}, how=how, cannot="no figure is claimed, and the rack does not ship"
    )


def kernel_utilisation(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """What a large matrix product reaches of its core's peak."""
    value = lab.utilisation(claim["subject"], claim["dtype"])
    how = f"one {claim['dtype']} product of 8192 x 8192 x 8192 on one logical core, by the operator formula"
    return Found(values={"large product": value}, how=how, cannot="the kernels and their shapes are not public")


def training_mfu(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """MFU of the fastest plan in bf16."""
    runs = {m: lab.train(m, claim["subject"], claim["chips"], "bf16", claim["framework"]) for m in claim["models"]}
    plans = "; ".join(f"{model}: {run.plan}" for model, run in runs.items())
    how = f"bf16 training step on {claim['chips']} chips with {claim['framework']}, sequence 8192, best plan; {plans}"
    return Found(
        values={m: r.mfu for m, r in runs.items()}, how=how, evidence=_training(lab, claim, claim["models"][0])
    )


def unpublished(lab: Lab, claim: Mapping[str, Any]) -> Found:
    """Claims about what nobody can run again."""
    return Found(values={}, how="not run", cannot=claim["why"])


def _requests() -> str:
    return f"{ISL:.0f} tokens in, {OSL:.0f} out"


def _training(lab: Lab, claim: Mapping[str, Any], model: str) -> Evidence:
    return lab.evidence(claim["subject"], "training", "step", model=model, dtype="bf16", metric="step_time_s")


def _serving(lab: Lab, claim: Mapping[str, Any], model: str) -> Evidence:
    dtype = "mxfp4" if model.startswith("gpt-oss") else "bf16"
    return lab.evidence(claim["subject"], "serving", "decode", model=model, dtype=dtype, metric="tpot_s")


def _forward(lab: Lab, claim: Mapping[str, Any], model: str) -> Evidence:
    return lab.evidence(claim["subject"], "forward", "diffusion", model=model, dtype="bf16", metric="step_time_s")


_ALL: Sequence[Measure] = (
    peak, memory_capacity, memory_bandwidth, chips, training_speed, serving_speed, cluster_scale, work_per_joule,
    tokens_per_chip, response, tokens_per_megawatt, cost_of_unpriced, cost_saved, music_cost_saved, frames,
    announced_compute, announced_bandwidth, mixed_rack, kernel_utilisation, training_mfu, unpublished,
)  # fmt: skip
MEASURES: Mapping[str, Measure] = {measure.__name__: measure for measure in _ALL}
