"""How two runs differ, in words: nothing where they do not, the question first, and no more than is needed."""

import copy

from sparring import attacks, spec
from sparring.evaluation.difference import differences
from sparring.threat import as_threat


def record(threat="linf:0.03", plan=None, **more):
    plan = {"pgd": attacks.PGD(5), "square": attacks.Square(20)} if plan is None else plan
    listed = [{"name": name, "settings": spec.write(attack)} for name, attack in plan.items()]
    base = {"threat": spec.write(as_threat(threat)), "attacks": listed, "seed": 0, "model": "aa", "data": "bb"}
    return base | {"samples": 24} | more


CALLED = {"model": "Sequential", "data": "digits"}


def said(there, here, called=CALLED, about=CALLED):
    return differences(there, here, called, about)


def test_a_record_does_not_differ_from_itself():
    assert said(record(), copy.deepcopy(record())) == []


def test_the_question_is_told_first_whatever_the_order_of_the_record():
    one, other = record(), record("l2:0.5", {"pgd": attacks.PGD(6)}, model="cc", data="dd", samples=9, seed=1, extra=2)
    words = [line.split()[0].rstrip(":") for line in said(one, dict(reversed(other.items())))]
    # the data are others because there are fewer of them, which is told by their number
    assert words == ["threat", "samples", "model", "attacks", "extra", "seed"]


def test_what_has_a_name_is_told_by_it_and_what_has_none_by_what_changed():
    other = CALLED | {"model": "Resnet"}
    assert said(record(), record(model="cc"), about=other) == ['model is "Sequential" there and "Resnet" here']
    assert said(record(), record(model="cc")) == [
        'model is "Sequential" both times, with other weights or layers there'
    ]
    assert said(record(), record(data="cc")) == ['data is "digits" both times, with other inputs or labels there']
    renamed = said(record(), record(data="cc", samples=9), about=CALLED | {"data": "mnist"})
    assert renamed == ['data is "digits" there and "mnist" here', "samples is 24 there and 9 here"]


def test_settings_are_told_by_name_three_of_an_attack_and_two_attacks_at_most():
    def plan(**how):
        return {name: attacks.PGD(**how) for name in ("one", "two", "three")}

    one, other = plan(steps=5), plan(steps=6, rate=0.1)
    (line,) = said(record(plan=one), record(plan=other))
    assert line.count(" of ") == 2
    assert "of one, rate is" in line
    assert "steps is 5 there and 6 here" in line
    assert "three" not in line
    many = {"a": attacks.FMN(7, 0.1, 0.2, 0.3)}
    (line,) = said(record(plan={"a": attacks.FMN()}), record(plan=many))
    assert line.count(" there and ") == 3


def test_a_level_a_loss_and_a_kind_are_told_by_their_names_without_their_modules():
    from sparring.losses import dlr
    from sparring.threat import Access, ThreatModel

    (line,) = said(record(plan={"a": attacks.PGD()}), record(plan={"a": attacks.PGD(loss=dlr)}))
    assert line == "attacks: of a, loss is cross_entropy there and dlr here"
    space = as_threat("linf:0.03").space
    (line,) = said(record(), record(ThreatModel(space, access=Access.SCORES)))
    assert line == "threat: access is GRADIENTS there and SCORES here"


def test_another_kind_is_told_first_and_none_of_the_settings_that_it_has_alone():
    (line,) = said(record(plan={"a": attacks.PGD()}), record(plan={"a": attacks.Square(50)}))
    assert line.startswith("attacks: of a, kind is PGD there and Square here, loss is")
    assert "absent" not in line
    (line,) = said(record("linf:0.03"), record("l2:0.5"))
    assert line == "threat: space is Linf there and L2 here, eps is 0.03 there and 0.5 here"


def test_what_is_absent_is_said_to_be_and_long_values_are_cut():
    assert said(record(), record(levels=255)) == ["levels is absent there and 255 here"]
    (line,) = said(record(note="x" * 100), record(note="y" * 100))
    assert line.endswith("… here")
    assert len(line) < 150


def test_the_weights_of_a_surrogate_are_named_with_whose_they_are():
    def told(sha):
        return [{"name": "t", "settings": {"type": "m:Transfer", "surrogate": {"model": "Net", "sha256": sha}}}]

    assert said(record(attacks=told("aa")), record(attacks=told("bb"))) == [
        'attacks: of t, surrogate.sha256 is "aa" there and "bb" here'
    ]
