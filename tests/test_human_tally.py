"""What the answers say: who is counted, rates, scores, tables; and how many raters it takes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from human_study import answer_all, careful, make_cases, make_study
from scipy import stats

from gan3d_eval.check_run import check_run
from gan3d_eval.human.power import Plan, answers_needed, exact_power, raters_needed, simulated_power
from gan3d_eval.human.store import Store
from gan3d_eval.human.study import CHECKS, StudyError
from gan3d_eval.human.tally import ALL, find_responses, tally, write_tables
from studies.bench_human import bench_human


@pytest.fixture
def runs(tmp_path):
    return [case.run for case in make_cases(tmp_path, 3)]


def asked(root, say, design="yes-no", runs=1, raters=8, stop=None, **options):
    path = root / f"{design}.sqlite"
    with Store(path, make_study(root, design, runs, **options)) as store:
        answer_all(store, raters, say, stop)
    return path


def test_rates_by_hand(tmp_path, runs):
    # raters know every real shape, and call the first half of their trials' generated shapes real
    count = {}

    def say(number, sources, random):
        if sources[0] == "boxes-0":
            count[number] = count.get(number, 0) + 1
            return "real" if count[number] <= 3 else "generated"
        return careful(number, sources, random)

    (result, written), = tally(asked(tmp_path, say), runs[:1])  # fmt: skip
    values = result.values
    assert (values["raters"], values["answers"]) == (8, 96)
    assert values["fooling_rate"] == 0.5  # 3 of each rater's 6
    assert values["hit_rate"] == 1.0
    assert "hit_rate_clustered" in result.absent  # all answers the same show nothing of raters
    hits, alarms = stats.norm.ppf(48.5 / 49), stats.norm.ppf(24.5 / 49)
    assert values["d_prime"] == pytest.approx(hits - alarms)
    assert values["criterion"] == pytest.approx(-(hits + alarms) / 2)
    wilson = stats.binomtest(24, 48).proportion_ci(method="wilson")
    assert (result.intervals["fooling_rate"]["low"], result.intervals["fooling_rate"]["high"]) == (wilson.low, wilson.high)
    assert json.loads(written.read_text())["values"]["fooling_rate"] == 0.5
    assert written.name == "human-eval.json"
    assert set(result.intervals) <= set(values)
    assert not set(values) & set(result.absent)
    assert check_run(runs[0].path) == []


def test_the_inattentive_are_left_out_and_counted_apart(tmp_path, runs):
    def say(number, sources, random):
        return "real" if number == 0 else careful(number, sources, random)

    path = tmp_path / "a.sqlite"
    with Store(path, make_study(tmp_path)) as store:
        answer_all(store, 7, say)
        early = store.rater(store.begin("leaves early"))
        store.answer(early, 0, "real", 1.0)
        store.begin("never answers")
    ((result, _),) = tally(path, runs[:1])
    assert (result.values["failed_checks"], result.values["too_few_checks"]) == (1, 1)
    assert (result.values["raters"], result.values[f"raters/{ALL}"]) == (6, 8)
    assert result.values[f"fooling_rate/{ALL}"] > result.values["fooling_rate"]
    assert any("Left out of 8 raters: 1 with more than 1 of 6" in note for note in result.notes)
    assert any("2 of 30 samples are empty" in note for note in result.notes)


def test_one_mistake_is_forgiven(tmp_path, runs):
    slipped = set()

    def say(number, sources, random):
        if sources[0] == "noise" and number not in slipped:
            slipped.add(number)
            return "real"
        return careful(number, sources, random)

    ((result, _),) = tally(asked(tmp_path, say), runs[:1])
    assert result.values["failed_checks"] == 0


def test_a_study_of_guessers_has_no_value_and_says_why(tmp_path, runs):
    ((result, _),) = tally(asked(tmp_path, lambda *_: "real"), runs[:1])
    assert result.values["answers"] == 0
    assert result.absent["fooling_rate"] == "no rater passed the attention checks"
    assert result.values[f"fooling_rate/{ALL}"] == 1.0


def test_a_table_without_rows_has_the_columns_of_its_design(tmp_path, runs):
    path = asked(tmp_path, lambda number, shown, random: "A", design="2afc")  # half of all checks are wrong
    tally(path, runs[:1])
    head = (runs[0].path / "results" / "human-eval-2afc.csv").read_text().splitlines()
    assert head == ["source,name,source_b,name_b,answers,a,share"]


def test_guessing_makes_half_no_skill_and_no_agreement(tmp_path, runs):
    def say(number, sources, random):
        return (
            careful(number, sources, random)
            if sources[0] in {"noise", "example"}
            else ("real", "generated")[random.integers(2)]
        )

    ((result, _),) = tally(asked(tmp_path, say, raters=25), runs[:1])
    for key, truth in (("fooling_rate_clustered", 0.5), ("hit_rate_clustered", 0.5), ("d_prime", 0.0), ("alpha", 0.0)):
        interval = result.intervals[key]
        assert interval["low"] < truth < interval["high"], key
        assert interval["high"] - interval["low"] < 0.9


def test_few_raters_have_no_interval_over_raters(tmp_path, runs):
    ((result, _),) = tally(asked(tmp_path, careful, raters=4), runs[:1])
    assert "fewer than 5 raters" in result.absent["fooling_rate_clustered"]
    assert "d_prime" in result.values
    assert "d_prime" not in result.intervals


def test_two_runs_side_by_side(tmp_path, runs):
    def say(number, sources, random):
        return (
            ("real" if random.random() < 0.8 else "generated") if sources[0] == "boxes-1" else careful(number, sources, random)
        )

    path = asked(tmp_path, say, runs=2, raters=20)
    (one, _), (other, _) = tally(path, runs[:2])
    assert one.values["fooling_rate/boxes-1"] == other.values["fooling_rate"]
    lead = one.intervals["fooling_rate_lead/boxes-1"]
    assert one.values["fooling_rate_lead/boxes-1"] == pytest.approx(one.values["fooling_rate"] - other.values["fooling_rate"])
    assert lead["low"] < -0.1
    assert other.values["fooling_rate_lead/boxes-0"] == pytest.approx(-one.values["fooling_rate_lead/boxes-1"])
    assert (runs[1].path / "results" / "human-eval.json").is_file()


def test_pairs_are_ranked(tmp_path, runs):
    path = asked(tmp_path, careful, "2afc", 3, shapes=6)
    (first, written), *_ = tally(path, runs)
    values = first.values
    assert written.name == "human-eval-2afc.json"
    assert values["preferred_over/data"] == 0.0
    assert values["preferred_over/boxes-1"] == 1.0
    assert values["strength/data"] > values["strength"] > values["strength/boxes-1"] > values["strength/boxes-2"]
    assert sum(values[k] for k in ("strength", "strength/data", "strength/boxes-1", "strength/boxes-2")) == pytest.approx(0)
    assert values["alpha"] == pytest.approx(1.0)
    assert 0.3 < values["said_a"] < 0.7
    rows = pd.read_csv(runs[0].path / "results" / "human-eval-2afc.csv")
    assert rows["answers"].sum() == values["answers"] == 96
    assert rows.loc[rows["source"] == "data", "share"].eq(1).all()


def test_the_same_answers_make_the_same_tally(tmp_path, runs):
    path = asked(tmp_path, careful)
    one, two = (tally(path, runs[:1], seed=3)[0][0].to_dict() for _ in range(2))
    for result in (one, two):
        result.pop("created"), result.pop("seconds")
    assert one == two


def test_it_counts_while_the_study_is_served(tmp_path, runs):
    with Store(tmp_path / "live.sqlite", make_study(tmp_path)) as store:
        answer_all(store, 5, careful)
        ((result, _),) = tally(store.path, runs[:1])
        assert result.values["answers"] == 60
        answer_all(store, 1, careful)  # and does not hold it up
        assert tally(store.path, runs[:1])[0][0].values["answers"] == 72


def test_no_answers_and_strangers_are_refused(tmp_path, runs):
    path = asked(tmp_path, careful, raters=0)
    with pytest.raises(StudyError, match="no answers yet"):
        tally(path, runs[:1])
    with pytest.raises(StudyError, match="run2 has no part in the study"):
        tally(path, runs[2:])
    with pytest.raises(StudyError, match=r"run0/responses holds no answers.*human-eval serve"):
        find_responses(runs)


def test_tables_are_documented_and_harmless(tmp_path, runs):
    path = tmp_path / "a.sqlite"
    with Store(path, make_study(tmp_path)) as store:
        store.begin('=HYPERLINK("evil")')
        answer_all(store, 1, careful)
        store.answer(store.rater(store.begin("=1+1")), 0, "real", None)
    answers, raters, shapes = (pd.read_csv(table) for table in write_tables(path, tmp_path / "csv"))
    assert list(answers) == "rater trial source name item source_b name_b item_b expected answer seconds answered".split()
    assert list(raters) == "rater name began answers checks checks_wrong status median_seconds d_prime criterion".split()
    assert list(shapes) == "source name answers real share".split()
    assert len(answers) == 12 + CHECKS + 1
    assert raters["name"].tolist() == ["rater 0", "'=1+1"]
    assert shapes["answers"].sum() == 12


def test_seconds_are_at_most_what_the_server_saw_pass(tmp_path, runs):
    path = tmp_path / "a.sqlite"
    with Store(path, make_study(tmp_path)) as store:
        rater = store.rater(store.begin(""))
        store.answer(rater, 0, "real", 3600.0)  # a forged, or a sleeping, clock
    answers = pd.read_csv(write_tables(path, tmp_path / "csv")[0])
    assert answers["seconds"][0] < 60


def test_the_commands_print_and_write(tmp_path, runs):
    from cli import main

    def call(*arguments):
        return CliRunner().invoke(main, ["human-eval", *(str(a) for a in arguments)], catch_exceptions=False)

    path = asked(tmp_path, careful, runs=2)
    shown = call("tally", *(run.path for run in runs), "--responses", path, "--csv", tmp_path / "csv")
    assert shown.exit_code == 0
    assert shown.stdout.count("fooling_rate_clustered") == 2
    assert "note: 1 of the runs have no part" in shown.stderr
    assert {p.name for p in (tmp_path / "csv").iterdir()} == {"answers.csv", "raters.csv", "shapes.csv"}
    one = json.loads(call("tally", runs[0].path, "--responses", path, "--json").stdout)
    assert one["verb"] == "human-eval"
    planned = call("power", "--rate", "0.3", "--rater-sd", "0").stdout
    assert "exact binomial" in planned
    assert "simulated" in planned
    assert "exact" not in call("power", "--rate", "0.3", "--other", "0.6").stdout


def test_many_raters_at_once_lose_nothing(tmp_path, runs):
    stored, same, *_ = bench_human(runs[0].path, raters=6, answers=10)
    assert "60 of 60 stored" in stored
    assert same == "each once and as it was sent: yes"


# --- power ---------------------------------------------------------------------------------------------------------------


def test_exact_power_is_that_of_scipys_test():
    for n, rate in ((20, 0.3), (37, 0.5), (50, 0.7)):
        k = np.arange(n + 1)
        significant = [stats.binomtest(int(i), n).pvalue <= 0.05 for i in k]
        assert exact_power(np.array([n]), rate)[0] == pytest.approx(stats.binom.pmf(k, n, rate)[significant].sum())


def test_answers_needed_are_enough_and_not_too_many():
    n = answers_needed(0.4)
    assert (exact_power(np.arange(n, n + 200), 0.4) >= 0.8).all()
    assert exact_power(np.array([n - 1]), 0.4)[0] < 0.8
    assert answers_needed(0.4) == answers_needed(0.6)
    assert abs(n - ((1.96 * 0.5 + 0.84 * np.sqrt(0.24)) / 0.1) ** 2) < 20  # the normal approximation
    with pytest.raises(StudyError, match="more than 200000 answers"):
        answers_needed(0.5001)
    with pytest.raises(StudyError, match="that of guessing"):
        answers_needed(0.5)


@pytest.mark.parametrize("plan", [Plan(0.5), Plan(0.4, 0.4, answers=10), Plan(0.5, rater_sd=1.0, shape_sd=0.0)])
def test_where_there_is_nothing_to_find_little_is_found(plan):
    assert simulated_power(plan, 20, studies=1000) <= 0.075


def test_raters_that_differ_cost_raters():
    alike, unlike = raters_needed(Plan(0.35, rater_sd=0, shape_sd=0))[0], raters_needed(Plan(0.35, rater_sd=1.0))[0]
    assert alike * 20 >= answers_needed(0.35)
    assert unlike > 1.5 * alike
    assert raters_needed(Plan(0.35)) == raters_needed(Plan(0.35))


def test_a_study_whose_answers_are_all_the_same_has_shown_nothing():
    plan = Plan(0.99, answers=1, shapes=10, rater_sd=0.0, shape_sd=0.0)
    assert simulated_power(plan, 5) <= 0.05  # 0.99⁵ of all studies hear one answer; the tally gives these no interval


def test_plans_that_cannot_be_are_refused():
    with pytest.raises(StudyError, match="nobody sees a shape twice"):
        raters_needed(Plan(0.4, answers=30, shapes=20))
    with pytest.raises(StudyError, match="1000 raters reach a power of"):
        raters_needed(Plan(0.5, answers=1, shapes=2))
