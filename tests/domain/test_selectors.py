"""Which hosts a rule means."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restic_manager.domain.selectors import TargetRule, selects

PROD_WEB = {"env": "prod", "role": "web"}


@pytest.mark.parametrize(
    ("rule", "labels", "selected"),
    [
        (TargetRule(all=True), {}, True),
        (TargetRule(hosts=("h1", "h2")), {}, True),
        (TargetRule(hosts=("h2",)), {}, False),
        (TargetRule(hosts=("h",)), {}, False),
        (TargetRule(hosts=("H1",)), {}, False),
        (TargetRule(labels={"env": "prod"}), PROD_WEB, True),
        (TargetRule(labels=PROD_WEB), PROD_WEB, True),
        (TargetRule(labels=PROD_WEB), {"env": "prod"}, False),
        (TargetRule(labels={"env": "test"}), PROD_WEB, False),
        (TargetRule(labels={"env": "prod"}), {}, False),
        (TargetRule(labels={"env": ""}), {}, False),
        (TargetRule(labels={"env": ""}), {"env": ""}, True),
        (TargetRule(labels={"env": "PROD"}), PROD_WEB, False),
    ],
)
def test_selects(rule: TargetRule, labels: dict[str, str], selected: bool) -> None:
    assert selects(rule, host_id="h1", labels=labels) is selected


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"hosts": (), "labels": {}, "all": False},
        {"hosts": ("h1",), "labels": {"env": "prod"}},
        {"hosts": ("h1",), "all": True},
        {"labels": {"env": "prod"}, "all": True},
        {"hosts": ("h1",), "labels": {"env": "prod"}, "all": True},
    ],
)
def test_exactly_one_of_three(parts: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one of hosts, labels and all"):
        TargetRule(**parts)  # type: ignore[arg-type]  # the parts are the fields' own
    with pytest.raises(msgspec.ValidationError, match="exactly one"):
        msgspec.json.decode(msgspec.json.encode(parts), type=TargetRule)


_LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)


@settings(deadline=None)
@given(_LABELS.filter(bool), _LABELS)
def test_more_labels_on_a_host_never_take_it_out(wanted: dict[str, str], more: dict[str, str]) -> None:
    rule = TargetRule(labels=wanted)
    assert selects(rule, host_id="h1", labels=more | wanted)
    assert selects(rule, host_id="h1", labels=more) == (wanted.items() <= more.items())
