"""What a study requests, in the form in which its steps take it."""

from typing import Any

from studies.sources import HubSamples
from studies.spec import Benchmark, Series, Study


def samples_of(study: Study, series: Series) -> dict[str, dict[str, Any]]:
    """Sources of the samples by domain and split, the series' own where it has its own."""
    samples = {}
    for domain in study.domains:
        samples[domain.name] = {"probe": series.probes.get(domain.name, domain.probes)}
        if domain.validation is not None:
            samples[domain.name]["validation"] = domain.validation
    return samples


def instructions_of(study: Study) -> dict[str, Any]:
    """Sources of the instructions by domain, of the domains that have some."""
    if study.tuning is None:
        return {}
    return {domain.name: domain.tuning for domain in study.domains if domain.tuning is not None}


def tuning_ranks(study: Study) -> dict[str, int]:
    """LoRA rank that each domain is scored with; 0 without tuning."""
    tuned = instructions_of(study)
    rank = 0 if study.tuning is None else study.tuning.rank
    return {domain.name: rank if domain.name in tuned else 0 for domain in study.domains}


def hub_data_sets(study: Study) -> list[HubSamples]:
    """Every data set on a hub that samples are taken from, each once."""
    sources = [source for one in study.series for source in one.probes.values()]
    for domain in study.domains:
        sources += [domain.probes, domain.validation, domain.tuning]  # type: ignore[list-item]
    found = [source for source in sources if isinstance(source, HubSamples)]
    return list({(source.repository, source.revision): source for source in found}.values())


def benchmarks(study: Study) -> dict[str, list[Benchmark]]:
    """Benchmarks by domain."""
    return {domain.name: list(domain.benchmarks) for domain in study.domains}


def accuracy(study: Study) -> dict[str, str | None]:
    """Name of the benchmark that is read as accuracy, by domain."""
    return {
        domain.name: domain.benchmarks[0].name if domain.benchmarks else None
        for domain in study.domains
    }
