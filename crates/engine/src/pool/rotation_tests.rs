//! The policy by its properties: any order of events, under a clock and a chance that the test has.

use super::*;
use crate::pool::Strategy;
use proptest::{prelude::*, strategy::Strategy as Generator};

const SECOND: Duration = Duration::from_secs(1);

fn options(strategy: Strategy) -> PoolOptions {
    PoolOptions { strategy, ..PoolOptions::default() }
}

/// Workers that all answered their first probe at 0.
fn serving(options: PoolOptions, slots: &[usize]) -> Rotation {
    let mut rotation = Rotation::new(options, slots.iter().map(|&slots| (slots, true)));
    (0..slots.len()).for_each(|worker| rotation.probed(Duration::ZERO, worker, ANSWERED));
    rotation
}

const ANSWERED: Outcome = Outcome::Answered { texts: 1 };

fn take(rotation: &mut Rotation, now: Duration, tokens: u64) -> usize {
    let tried = vec![false; rotation.seats.len()];
    match rotation.choose(now, tokens, &tried, 0.0) {
        Choice::Take(worker) => worker,
        other => panic!("{other:?}"),
    }
}

/// Gives one batch to the only worker, at a time.
fn one(rotation: &mut Rotation, now: Duration, outcome: Outcome) {
    assert_eq!(take(rotation, now, 1), 0);
    rotation.finish(now, 0, 1, outcome);
}

fn is_ejected(rotation: &Rotation, worker: usize) -> bool {
    !rotation.seats[worker].serves(Duration::ZERO).0
}

#[derive(Clone, Debug)]
enum Event {
    Choose { tokens: u64, tried: u8, chance: f64 },
    Finish { which: usize, outcome: Outcome },
    Probe,
    Probed { which: usize, outcome: Outcome },
}

fn outcome() -> impl Generator<Value = Outcome> {
    prop_oneof![
        4 => Just(ANSWERED),
        1 => Just(Outcome::Refused),
        1 => proptest::option::of(0_u64..5000).prop_map(|ms| Outcome::Busy(ms.map(Duration::from_millis))),
        4 => Just(Outcome::Failed),
        1 => Just(Outcome::Broken),
        1 => Just(Outcome::Repeated),
    ]
}

fn event() -> impl Generator<Value = Event> {
    prop_oneof![
        4 => (1_u64..1000, any::<u8>(), 0.0..1.0_f64)
            .prop_map(|(tokens, tried, chance)| Event::Choose { tokens, tried: tried & (tried >> 4), chance }),
        4 => (any::<usize>(), outcome()).prop_map(|(which, outcome)| Event::Finish { which, outcome }),
        2 => Just(Event::Probe),
        2 => (any::<usize>(), outcome()).prop_map(|(which, outcome)| Event::Probed { which, outcome }),
    ]
}

fn strategy() -> impl Generator<Value = Strategy> {
    proptest::sample::select(&Strategy::ALL[..])
}

proptest! {
    #[test]
    fn whatever_happens_nobody_is_asked_who_should_not_be(
        strategy in strategy(), slots in proptest::collection::vec(1_usize..4, 1..5),
        events in proptest::collection::vec((0_u64..3000, event()), 1..200), eject_after in 1_u32..4,
    ) {
        let options = PoolOptions { eject_after, ..options(strategy) };
        let mut rotation = Rotation::new(options, slots.iter().map(|&slots| (slots, true)));
        let mut now = Duration::ZERO;
        let mut under_way: Vec<(usize, u64)> = Vec::new();
        let mut probes: Vec<usize> = (0..slots.len()).collect();
        for (later, event) in events {
            now += Duration::from_millis(later);
            let before = rotation.seats.clone();
            match event {
                Event::Choose { tokens, tried, chance } => {
                    let tried: Vec<bool> = (0..slots.len()).map(|i| tried >> i & 1 == 1).collect();
                    let awake = |i: &usize| before[*i].serves(now) == (true, false);
                    let fresh = |i: &usize| awake(i) && !tried[*i];
                    let free = |i: &usize| {
                        let busy = under_way.iter().filter(|(worker, _)| worker == i).count();
                        busy + usize::from(probes.contains(i)) < slots[*i]
                    };
                    let all = || 0..slots.len();
                    match rotation.choose(now, tokens, &tried, chance) {
                        Choice::Take(worker) => {
                            prop_assert!(fresh(&worker) && free(&worker));
                            under_way.push((worker, tokens));
                        }
                        Choice::Full => {
                            prop_assert!(all().any(|i| fresh(&i)));
                            prop_assert!(!all().any(|i| fresh(&i) && free(&i)));
                        }
                        Choice::Tried => prop_assert!(all().any(|i| awake(&i)) && !all().any(|i| fresh(&i))),
                        Choice::Resting(until) => {
                            prop_assert!(until > now && !all().any(|i| awake(&i)));
                            prop_assert!(all().any(|i| before[i].serves(now).0));
                        }
                        Choice::Down => prop_assert!(!all().any(|i| before[i].serves(now).0)),
                    }
                }
                Event::Finish { which, outcome } if !under_way.is_empty() => {
                    let (worker, tokens) = under_way.swap_remove(which % under_way.len());
                    rotation.finish(now, worker, tokens, outcome);
                    // A late answer puts nobody back, and only failures take out.
                    let (was, is) = (before[worker].serves(now).0, rotation.seats[worker].serves(now).0);
                    prop_assert!(was || !is);
                    prop_assert!(is == was || matches!(outcome, Outcome::Failed | Outcome::Broken));
                }
                Event::Probe => {
                    for worker in rotation.probes(now) {
                        prop_assert!(!probes.contains(&worker));
                        prop_assert!(under_way.iter().filter(|(w, _)| *w == worker).count() < slots[worker]);
                        let due = match before[worker].health {
                            Health::Ejected { until } => until,
                            Health::Serving { rests_until, .. } => rests_until.max(before[worker].heard + options.health_every),
                        };
                        prop_assert!(due <= now);
                        probes.push(worker);
                    }
                    prop_assert!(rotation.next_probe().is_none_or(|at| at > now));
                }
                Event::Probed { which, outcome } if !probes.is_empty() => {
                    let worker = probes.swap_remove(which % probes.len());
                    rotation.probed(now, worker, outcome);
                    if before[worker].serves(now).0 {
                        prop_assert!(rotation.seats[worker].serves(now).0
                            || matches!(outcome, Outcome::Failed | Outcome::Broken));
                    } else {
                        prop_assert_eq!(rotation.seats[worker].serves(now).0, outcome == ANSWERED);
                    }
                }
                _ => {}
            }
            for (i, seat) in rotation.seats.iter().enumerate() {
                let mine = under_way.iter().filter(|(worker, _)| *worker == i);
                prop_assert_eq!(seat.under_way, mine.clone().count());
                prop_assert_eq!(seat.tokens, mine.map(|(_, tokens)| tokens).sum::<u64>());
                prop_assert!(seat.length >= options.eject_for && seat.length <= options.eject_at_most);
            }
        }
    }

    #[test]
    fn one_after_the_other_is_as_often_as_the_other(count in 1_usize..6, batches in 1_usize..50) {
        let mut rotation = serving(options(Strategy::RoundRobin), &vec![100; count]);
        let order: Vec<usize> = (0..batches).map(|_| take(&mut rotation, SECOND, 1)).collect();
        prop_assert!(order.iter().enumerate().all(|(n, worker)| *worker == n % count));
    }

    #[test]
    fn the_least_loaded_have_equal_shares_of_their_slots(
        slots in proptest::collection::vec(1_usize..8, 1..5), batches in 1_usize..30,
    ) {
        let mut rotation = serving(options(Strategy::LeastLoaded), &slots);
        for _ in 0..batches.min(slots.iter().sum()) {
            take(&mut rotation, SECOND, 1);
        }
        for a in &rotation.seats {
            for b in &rotation.seats {
                // Whoever got the last one had no larger share before.
                let (less, share) = ((a.under_way as f64 - 1.0) / a.slots as f64, b.under_way as f64 / b.slots as f64);
                prop_assert!(less <= share + 1e-12);
            }
        }
    }

    #[test]
    fn the_fastest_would_all_be_done_at_the_same_time(
        speeds in proptest::collection::vec(1_u64..1000, 2..5), batches in proptest::collection::vec(1_u64..100, 1..60),
    ) {
        let mut rotation = serving(options(Strategy::Fastest), &vec![1000; speeds.len()]);
        for (seat, speed) in rotation.seats.iter_mut().zip(&speeds) {
            seat.speed.add(SECOND, *speed, SECOND);
        }
        let largest = batches.iter().copied().max().unwrap() as f64;
        batches.iter().for_each(|tokens| { take(&mut rotation, SECOND, *tokens); });
        let workers = || rotation.seats.iter().zip(&speeds);
        let done = |(seat, speed): (&Seat, &u64)| seat.tokens as f64 / *speed as f64;
        for one in workers() {
            for other in workers() {
                prop_assert!(done(one) <= done(other) + largest / *other.1 as f64 + 1e-9);
            }
        }
    }

    #[test]
    fn chance_is_the_whole_of_a_random_choice(count in 1_usize..9, chance in 0.0..1.0_f64) {
        let mut rotation = serving(options(Strategy::Random), &vec![1; count]);
        let expected = (chance * count as f64) as usize;
        prop_assert_eq!(rotation.choose(SECOND, 1, &vec![false; count], chance), Choice::Take(expected));
    }

    #[test]
    fn failures_in_a_row_eject_and_an_answer_between_them_does_not(after in 1_u32..6, rows in 0_usize..5) {
        let mut rotation = serving(PoolOptions { eject_after: after, ..options(Strategy::RoundRobin) }, &[4]);
        for _ in 0..rows {
            (1..after).for_each(|_| one(&mut rotation, SECOND, Outcome::Failed));
            one(&mut rotation, SECOND, ANSWERED);
        }
        (1..after).for_each(|_| one(&mut rotation, SECOND, Outcome::Failed));
        prop_assert!(!is_ejected(&rotation, 0));
        one(&mut rotation, SECOND, Outcome::Failed);
        prop_assert!(is_ejected(&rotation, 0));
        prop_assert_eq!(rotation.choose(SECOND, 1, &[false], 0.0), Choice::Down);
        prop_assert_eq!(rotation.seats[0].counts.ejections, 1);
    }
}

#[test]
fn an_ejection_ends_by_a_probe_and_doubles_while_probes_fail() {
    let mut rotation = serving(options(Strategy::RoundRobin), &[2]);
    let mut now = SECOND;
    one(&mut rotation, now, Outcome::Broken);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let until = now + SECOND * seconds;
        assert_eq!(rotation.next_probe(), Some(until));
        assert!(rotation.probes(until - Duration::from_nanos(1)).is_empty());
        assert_eq!(rotation.probes(until), [0]);
        // One probe, and none of the caller's texts.
        assert_eq!(rotation.next_probe(), None);
        assert!(rotation.probes(until + SECOND * 999).is_empty());
        assert_eq!(rotation.choose(until, 1, &[false], 0.0), Choice::Down);
        now = until + SECOND;
        rotation.probed(now, 0, Outcome::Failed);
    }
    let until = rotation.next_probe().unwrap();
    assert_eq!(rotation.probes(until), [0]);
    rotation.probed(until, 0, ANSWERED);
    // A worker that answers probes and nothing else stays out longer and longer; one that answers a batch begins anew.
    one(&mut rotation, until, Outcome::Broken);
    assert_eq!(rotation.next_probe(), Some(until + SECOND * 30));
    assert_eq!(rotation.probes(until + SECOND * 30), [0]);
    rotation.probed(until + SECOND * 30, 0, ANSWERED);
    one(&mut rotation, until + SECOND * 30, ANSWERED);
    one(&mut rotation, until + SECOND * 30, Outcome::Broken);
    assert_eq!(rotation.next_probe(), Some(until + SECOND * 31));
    assert_eq!(rotation.seats[0].counts.ejections, 3);
}

#[test]
fn who_asks_for_time_gets_it_and_is_not_ejected() {
    let mut rotation = serving(PoolOptions { eject_after: 1, ..options(Strategy::RoundRobin) }, &[4, 4]);
    let choose = |rotation: &mut Rotation, now| rotation.choose(now, 1, &[false, false], 0.0);
    assert_eq!([take(&mut rotation, SECOND, 1), take(&mut rotation, SECOND, 1)], [0, 1]);
    rotation.finish(SECOND, 0, 1, Outcome::Busy(Some(SECOND * 5)));
    assert_eq!(rotation.seats[0].serves(SECOND), (true, true));
    assert_eq!(choose(&mut rotation, SECOND * 2), Choice::Take(1));
    rotation.finish(SECOND * 2, 1, 1, Outcome::Busy(None));
    assert_eq!(choose(&mut rotation, SECOND * 2), Choice::Resting(SECOND * 2 + REST));
    assert_eq!(choose(&mut rotation, SECOND * 3), Choice::Take(1));
    rotation.finish(SECOND * 3, 1, 1, ANSWERED);
    rotation.finish(SECOND * 3, 1, 1, ANSWERED);
    assert_eq!(choose(&mut rotation, SECOND * 6), Choice::Take(0));
    assert_eq!((rotation.seats[0].counts.failed, rotation.seats[1].counts.failed), (1, 1));
    // Nor is it probed before.
    rotation.finish(SECOND * 6, 0, 1, Outcome::Busy(Some(SECOND * 600)));
    assert_eq!(rotation.probes(SECOND * 100), [1]);
    assert_eq!(rotation.next_probe(), Some(SECOND * 606));
}

#[test]
fn idle_servers_are_probed_and_models_of_this_machine_are_not() {
    let mut rotation = Rotation::new(options(Strategy::LeastLoaded), [(1, true), (1, false)]);
    (0..2).for_each(|worker| rotation.probed(Duration::ZERO, worker, ANSWERED));
    assert_eq!(rotation.next_probe(), Some(SECOND * 10));
    assert_eq!(take(&mut rotation, SECOND, 1), 0);
    assert_eq!(rotation.next_probe(), None);
    rotation.finish(SECOND * 5, 0, 1, ANSWERED);
    assert_eq!(rotation.next_probe(), Some(SECOND * 15));
    assert_eq!(rotation.probes(SECOND * 15), [0]);
    // The probe has its only slot.
    assert_eq!(take(&mut rotation, SECOND * 15, 1), 1);
    assert_eq!(rotation.choose(SECOND * 15, 1, &[false, false], 0.0), Choice::Full);
    rotation.probed(SECOND * 16, 0, Outcome::Failed);
    rotation.probes(SECOND * 26);
    rotation.probed(SECOND * 26, 0, Outcome::Failed);
    rotation.probes(SECOND * 36);
    rotation.probed(SECOND * 36, 0, Outcome::Failed);
    assert!(is_ejected(&rotation, 0));
    assert_eq!(rotation.next_probe(), Some(SECOND * 37));
}

#[test]
fn several_at_once_are_measured_by_what_they_do_together() {
    let mut rotation = serving(options(Strategy::Fastest), &[2]);
    let start = SECOND * 100;
    take(&mut rotation, start, 50);
    take(&mut rotation, start, 50);
    rotation.finish(start + SECOND, 0, 50, ANSWERED);
    rotation.finish(start + SECOND, 0, 50, ANSWERED);
    let speed = rotation.seats[0].speed.measured().unwrap();
    assert!((speed - 100.0).abs() < 10.0, "{speed}");
    // The time without work is none.
    take(&mut rotation, start * 2, 100);
    rotation.finish(start * 2 + SECOND, 0, 100, ANSWERED);
    assert!(rotation.seats[0].speed.measured().unwrap() > 90.0);
}
