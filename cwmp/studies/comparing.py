"""Methods against each other at each place of a study, paired by seed.

Every method of the family is compared with every other method of the study: at the same budget
where both take one, else at the budget the other has, and then joules differ. The family's tests
are corrected together and wait until every seed is there: looking at each as it comes and stopping
at the first that passes would be another test. The rest is compared by tests that nothing corrects,
and called so.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cwmp.comparison import MARGIN
from cwmp.fl.algorithms.setting import MethodName
from cwmp.studies.endpoints import sooner
from cwmp.studies.grid import WHOLE
from cwmp.studies.inference import ALPHA, holm, least_p, wilcoxon_p
from cwmp.studies.runs import RunFile
from cwmp.studies.summarising import Book, mean_of
from cwmp.studies.summary import MeanOf, Sooner, StudyTest, Verdict

ENDPOINTS = ("final_accuracy", "worst_decile", "hypervolume")


def compare(book: Book) -> Iterator[StudyTest]:
    """Every comparison; p-values of the family are corrected over all tests it was planned with.

    A test that could not be made (a budget that opens no layer, seeds that are not run yet) keeps
    its place in the family with p = 1: what is left does not get easier to pass.
    """
    spec = book.plan.spec
    family = set(spec.family_places())
    made = list(_all(book))
    own = [test for test in made if _key(test) in family]
    whole = [test.p if test.difference.n == spec.seeds else 1.0 for test in own]
    p_values = whole + [1.0] * (len(family) - len(own))
    corrected = dict(zip(map(_key, own), holm(p_values), strict=False))
    for test in made:
        p_holm = corrected.get(_key(test))
        p = test.p if p_holm is None else p_holm
        yield test.model_copy(
            update={
                "p_holm": p_holm,
                "family": p_holm is not None,
                "verdict": verdict_of(test.difference, p, test.endpoint, test.identical),
            }
        )


def verdict_of(difference: MeanOf, p: float, endpoint: str, identical: bool) -> Verdict:
    """Better or worse where the test passes and the interval of the mean excludes 0 with it.

    Either alone is not enough: ranks may lean one way and the mean the other, and intervals of
    few pairs are too short. Tied is said of accuracies alone, where the interval lies within one
    point, and of runs that do not differ at all. Where no outcome could pass a test (five pairs
    or fewer), nothing is said.

    Args:
        difference: method minus other.
        p: Holm's in the family, else the test's own.
        endpoint: what differs.
        identical: whether no pair differs.
    """
    if identical:
        return "tied"
    if least_p(difference.n) > ALPHA or difference.low is None or difference.high is None:
        return "unknown"
    if p <= ALPHA and (difference.low > 0 or difference.high < 0):
        return "better" if difference.low > 0 else "worse"
    within = difference.low > -MARGIN and difference.high < MARGIN
    return "tied" if within and p > ALPHA and endpoint != "hypervolume" else "unknown"


def _all(book: Book) -> Iterator[StudyTest]:
    spec = book.plan.spec
    methods = tuple(str(MethodName.parse(text)) for text in spec.family.methods)
    asked = {(method, other) for _, _, _, method, other, _ in spec.family_places()}
    for device in book.plan.fleets:
        for alpha in spec.alphas:
            for method in methods:
                for budget in spec.shares if spec.takes_budget(method) else (WHOLE,):
                    for other in spec.rules:
                        if other == method or (other, method) in asked:
                            continue
                        if other in methods and other < method and (method, other) not in asked:
                            continue  # each pair of the family's own methods once
                        for other_budget in _others(book, method, budget, other):
                            place = (device, alpha, method, budget, other, other_budget)
                            yield from _at(book, place)


def _others(book: Book, method: str, budget: str, other: str) -> tuple[str, ...]:
    spec = book.plan.spec
    if not spec.takes_budget(other):
        return (WHOLE,)
    return (budget,) if spec.takes_budget(method) else spec.shares


def _at(book: Book, place: tuple[str, float, str, str, str, str]) -> Iterator[StudyTest]:
    device, alpha, method, budget, other, other_budget = place
    ours = book.finished((device, alpha, method, budget, ""))
    theirs = book.finished((device, alpha, other, other_budget, ""))
    pairs = [(ours[seed], theirs[seed]) for seed in sorted(ours.keys() & theirs.keys())]
    if not pairs:
        return
    for endpoint in ENDPOINTS:
        found = [(book.endpoint(a, endpoint), book.endpoint(b, endpoint)) for a, b in pairs]
        known = [(a, b) for a, b in found if a is not None and b is not None]
        if len(known) < len(pairs):
            continue
        differences = np.array([a - b for a, b in known])
        main = endpoint == "final_accuracy"
        yield StudyTest(
            device=device,
            alpha=alpha,
            method=method,
            budget=budget,
            other=other,
            other_budget=other_budget,
            endpoint=endpoint,
            difference=mean_of(differences.tolist()),
            p=wilcoxon_p(differences),
            p_holm=None,
            family=False,
            verdict="unknown",
            identical=not differences.any(),
            sooner=tuple(_sooner(book, pairs)) if main else (),
            energy_ratio=_ratio(book, pairs),
        )


def _sooner(book: Book, pairs: list[tuple[RunFile, RunFile]]) -> Iterator[Sooner]:
    for target in book.plan.spec.endpoints.targets:
        outcomes = []
        for pair in pairs:
            one, other = (book.waited(run, target) for run in pair)
            if one is None or other is None:
                return
            outcomes.append(sooner(one, other))
        yield Sooner(
            accuracy=target,
            fewer=outcomes.count(1),
            more=outcomes.count(-1),
            equal=outcomes.count(0),
            censored=outcomes.count(None),
        )


def _ratio(book: Book, pairs: list[tuple[RunFile, RunFile]]) -> float | None:
    spent = [(book.spent_j(a), book.spent_j(b)) for a, b in pairs]
    known = [a / b for a, b in spent if a is not None and b]
    return float(np.mean(known)) if len(known) == len(spent) else None


def _key(test: StudyTest) -> tuple[str, float, str, str, str, str]:
    return (test.device, test.alpha, test.budget, test.method, test.other, test.endpoint)
