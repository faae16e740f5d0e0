//! Whole queues on simulated machines and arrivals of several kinds; no clock, no threads, no luck.

mod machine;
mod traces;

use embral_scheduler::{CostModel, Grouping, Preset, Priority, QueueConfig, Refusal, Tenant};
use machine::{End, Event, Machine, Outcome, quantile, run, run_changing};
use std::{cell::RefCell, time::Duration};
use traces::{Arrival, Random, arrival, merge, poisson};

/// Two cores and a model of the size of all-MiniLM-L6-v2: some 10,000 tokens a second.
const TRUTH: CostModel = CostModel {
    flops_per_token: 21.3e6,
    flops_per_pair: 9.2e3,
    bytes_fixed: 0.0,
    bytes_per_token: 14e3,
    bytes_per_pair: 0.0,
    bytes_per_sequence: 1536.0,
    seconds_per_batch: 1e-3,
    flops_per_second: 2.2e11,
    padded: false,
};

const MACHINE: Machine = Machine { cost: TRUTH, noise: 0.03 };

/// The queue begins with a guess that is wrong: three times too slow, and no fixed seconds.
fn config(preset: Preset) -> QueueConfig {
    let guess = CostModel { seconds_per_batch: 0.0, flops_per_second: TRUTH.flops_per_second / 3.0, ..TRUTH };
    QueueConfig::preset(preset, guess)
}

fn single(tenant: u64, priority: Priority) -> impl FnMut(&mut Random, f64) -> Arrival {
    move |random, at| arrival(at, tenant, priority, vec![random.short()])
}

fn singles(random: &mut Random, seconds: f64, rate: f64, tenant: u64, priority: Priority) -> Vec<Arrival> {
    poisson(random, seconds, rate, |_| rate, single(tenant, priority))
}

/// Requests of 64 documents, more of them than the machine can take.
fn bulk(random: &mut Random, seconds: f64, tenant: u64, priority: Priority) -> Vec<Arrival> {
    jobs(random, seconds, tenant, priority, 64)
}

/// 320 documents a second, in requests of so many.
fn jobs(random: &mut Random, seconds: f64, tenant: u64, priority: Priority, size: usize) -> Vec<Arrival> {
    let rate = 320.0 / size as f64;
    poisson(
        random,
        seconds,
        rate,
        |_| rate,
        |random, at| {
            let documents = (0..size).map(|_| 60 + (random.uniform() * 120.0) as u32).collect();
            arrival(at, tenant, priority, documents)
        },
    )
}

const PRESETS: [Preset; 3] = [Preset::Throughput, Preset::Latency, Preset::Memory];

/// Singles of one tenant beside more bulk of another than the machine can take, once the budget has settled: how many of a hundred met
/// another batch than the one that ran and their own, their 99th percentile, and the time of a full batch (its 95th).
fn singles_beside_bulk(config: QueueConfig, [single, bulky]: [Priority; 2], seed: u64) -> (f64, f64, f64) {
    let mut random = Random(seed);
    let load = merge(vec![bulk(&mut random, 120.0, 1, bulky), singles(&mut random, 120.0, 20.0, 2, single)]);
    let report = run(config, MACHINE, load, seed);
    let settled = 40.0..120.0;
    let full = report.ran.iter().filter(|r| settled.contains(&r.start) && r.shape.tokens * 10 > r.budget * 7);
    let full: Vec<f64> = full.map(|r| r.seconds).collect();
    let mine: Vec<&Outcome> =
        report.outcomes.iter().filter(|o| o.tenant == Tenant(2) && settled.contains(&o.arrival)).collect();
    assert!(mine.len() > 1000 && full.len() > 50, "{} and {}", mine.len(), full.len());
    let met =
        |o: &Outcome| report.ran.iter().filter(|r| r.start < o.end && r.start + r.seconds > o.arrival + 1e-9).count();
    let more = mine.iter().filter(|o| met(o) > 2).count() as f64 / mine.len() as f64;
    let latencies: Vec<f64> = mine.iter().map(|o| o.latency()).collect();
    (100.0 * more, quantile(&latencies, 0.99), quantile(&full, 0.95))
}

/// The 99th percentile of urgent singles is less than two batch times.
#[test]
fn bulk_does_not_slow_an_urgent_single() {
    for (tokens, seed) in [(256, 1), (1024, 2), (4096, 3)] {
        let mut config = config(Preset::Throughput);
        (config.tuner.least_tokens, config.tuner.most_tokens) = (tokens, tokens);
        let (more, p99, batch) = singles_beside_bulk(config, [Priority::High, Priority::Low], seed);
        println!("{tokens} tokens: p99 of urgent singles {:.1} ms, batches {:.1} ms", p99 * 1e3, batch * 1e3);
        assert!(p99 <= 1.75 * batch && more < 1.0, "{tokens}: p99 {p99}, batch {batch}, {more} % met more than two");
    }
}

/// While the budget moves, a batch time is none; but the next batch is theirs.
#[test]
fn an_urgent_single_is_in_the_next_batch_of_any_preset() {
    for preset in PRESETS {
        let (more, p99, _) = singles_beside_bulk(config(preset), [Priority::High, Priority::Low], 1);
        println!("{preset:?}: p99 of urgent singles {:.1} ms", p99 * 1e3);
        assert!(more < 1.0 && p99 < 0.2, "{preset:?}: {p99} s, {more} % met more than two batches");
    }
}

#[test]
fn bulk_of_one_tenant_does_not_slow_singles_of_another() {
    let (more, p99, batch) = singles_beside_bulk(config(Preset::Latency), [Priority::Normal; 2], 4);
    assert!(more < 3.0 && p99 <= 3.0 * batch, "p99 {p99}, batch {batch}, {more} % met more than two");
}

#[test]
fn tenants_share_by_weight_and_the_lowest_class_is_not_starved() {
    let mut random = Random(5);
    let load = merge(
        (1..=4)
            .map(|tenant| jobs(&mut random, 60.0, tenant, if tenant == 4 { Priority::Low } else { Priority::High }, 8))
            .collect(),
    );
    let config = config(Preset::Throughput);
    let mut queue = embral_scheduler::Queue::new(config).unwrap();
    for (tenant, weight) in [(1, 1.0), (2, 2.0), (3, 5.0)] {
        queue.set_weight(Tenant(tenant), weight).unwrap();
    }
    let report = machine::run_queue(queue, |_| MACHINE, load, |_| None, 5);
    let mut served = [0.0; 5];
    let backlog = report.outcomes.iter().filter(|o| (10.0..60.0).contains(&o.end));
    backlog.for_each(|o| served[o.tenant.0 as usize] += o.tokens as f64);
    let all: f64 = served.iter().sum();
    let shares = served.map(|tokens| tokens / all);
    // Of 17 parts the high class has 16, which its tenants share as 1 : 2 : 5.
    for (tenant, expected) in [(1, 2.0 / 17.0), (2, 4.0 / 17.0), (3, 10.0 / 17.0), (4, 1.0 / 17.0)] {
        let off = shares[tenant] / expected - 1.0;
        assert!(off.abs() < 0.1, "tenant {tenant}: {shares:?}");
    }
}

#[test]
fn a_light_load_is_answered_without_waiting() {
    for preset in PRESETS {
        let mut random = Random(6);
        let load = singles(&mut random, 60.0, 50.0, 1, Priority::Normal);
        let report = run(config(preset), MACHINE, load, 6);
        let latencies = report.of(Priority::Normal);
        // A single takes some 3 ms, and the machine is a sixth busy.
        assert!(
            quantile(&latencies, 0.5) < 0.005 && quantile(&latencies, 0.99) < 0.015,
            "{preset:?}: {}",
            quantile(&latencies, 0.99)
        );
        assert!(report.refused.is_empty());
        // Down to what the wrong guess allows, and no further: nothing is learnt by moving.
        assert!(report.queue.statistics(Duration::ZERO).budget_moves <= 2);
    }
}

#[test]
fn latency_grows_gently_up_to_nine_tenths_of_what_the_machine_can_do() {
    for preset in PRESETS {
        // 10,000 tokens a second, 20 tokens each.
        for (load, most) in [(0.5, 0.05), (0.7, 0.1), (0.9, 0.6)] {
            let mut random = Random(7);
            let arrivals = singles(&mut random, 60.0, load * 495.0, 1, Priority::Normal);
            let report = run(config(preset), MACHINE, arrivals, 7);
            let p99 = quantile(&report.of(Priority::Normal), 0.99);
            assert!(p99 < most && report.refused.is_empty(), "{preset:?} at {load}: {p99}");
        }
    }
}

#[test]
fn sixty_four_clients_that_wait_for_their_answers_fill_the_machine() {
    for preset in PRESETS {
        let random = RefCell::new(Random(8));
        let next = |at: f64| {
            let mut random = random.borrow_mut();
            let at = at + random.exponential(1e4);
            arrival(at, 1, Priority::Normal, vec![random.short()])
        };
        let load = (0..64).map(|_| next(0.0)).collect();
        let report = run_changing(
            config(preset),
            |_| MACHINE,
            load,
            |event| match event {
                Event::Done(outcome) if outcome.end < 60.0 => Some(next(outcome.end)),
                _ => None,
            },
            8,
        );
        let batches_of_32 = TRUTH.seconds(&embral_scheduler::Shape::uniform(32, 20));
        let (got, most) = (report.throughput(5.0, 60.0), 32.0 * 20.0 / batches_of_32);
        println!("{preset:?}: {got:.0} tokens/s with 64 clients, {most:.0} in batches of 32");
        assert!(got > 0.9 * most, "{preset:?}: {got} of {most}");
    }
}

#[test]
fn bursts_are_taken_in_and_worked_off() {
    for preset in PRESETS {
        let mut random = Random(9);
        // 200 singles at once, once a second: 0.4 of what the machine can do.
        let load = (0..60).flat_map(|second| (0..200).map(move |i| (second, i))).map(|(second, i)| {
            arrival(f64::from(second) + f64::from(i) * 1e-5, 1, Priority::Normal, vec![random.short()])
        });
        let report = run(config(preset), MACHINE, load.collect(), 9);
        let latencies = report.of(Priority::Normal);
        assert_eq!(latencies.len(), 12_000);
        // All 200 take some 0.4 s.
        assert!(quantile(&latencies, 0.99) < 0.5, "{preset:?}: {}", quantile(&latencies, 0.99));
    }
}

#[test]
fn a_ramp_beyond_what_the_machine_can_do_and_down_again_leaves_nothing_behind() {
    for preset in PRESETS {
        let mut random = Random(10);
        let rate = |at: f64| 650.0 * (1.0 - (at - 60.0).abs() / 60.0);
        let load = poisson(&mut random, 120.0, 650.0, rate, single(1, Priority::Normal));
        let report = run(config(preset), MACHINE, load, 10);
        let peak = report.throughput(50.0, 70.0);
        let least = if preset == Preset::Throughput { 9200.0 } else { 8000.0 };
        assert!(peak > least, "{preset:?}: {peak}");
        let late: Vec<f64> = report.outcomes.iter().filter(|o| o.arrival > 115.0).map(|o| o.latency()).collect();
        assert!(quantile(&late, 0.99) < 0.05, "{preset:?}: the queue is short again");
    }
}

/// What each preset finds, beside the best of all fixed budgets on the same arrivals.
#[test]
fn a_bulk_job_is_done_at_nearly_the_best_rate() {
    let mut random = Random(11);
    let load: Vec<Arrival> = bulk(&mut random, 300.0, 1, Priority::Low);
    let best = [256, 1024, 4096, 16_384].map(|tokens| {
        let mut config = config(Preset::Throughput);
        (config.tuner.least_tokens, config.tuner.most_tokens) = (tokens, tokens);
        run(config, MACHINE, load.clone(), 11).throughput(100.0, 300.0)
    });
    let best = best.into_iter().fold(0.0, f64::max);
    for (preset, first_tokens, least) in [
        (Preset::Throughput, 4096, 0.95),
        (Preset::Throughput, 64, 0.95),
        (Preset::Throughput, 65_536, 0.95),
        (Preset::Latency, 64, 0.85),
        (Preset::Memory, 4096, 0.85),
    ] {
        let mut config = config(preset);
        config.tuner.first_tokens = first_tokens;
        let batch_seconds = config.tuner.batch_seconds();
        let report = run(config, MACHINE, load.clone(), 11);
        let got = report.throughput(100.0, 300.0);
        println!("{preset:?} from {first_tokens}: {got:.0} of {best:.0} tokens/s");
        assert!(got > least * best, "{preset:?} from {first_tokens}: {got} of {best}");
        let late: Vec<f64> = report.ran.iter().filter(|r| r.start > 100.0).map(|r| r.seconds).collect();
        assert!(quantile(&late, 0.95) <= 1.1 * batch_seconds, "{preset:?}: {}", quantile(&late, 0.95));
    }
}

#[test]
fn a_machine_that_is_slowed_down_keeps_its_batches_short() {
    let mut random = Random(12);
    let load = bulk(&mut random, 300.0, 1, Priority::Low);
    let machine = |at: f64| {
        let slower = if (100.0..200.0).contains(&at) { 3.0 } else { 1.0 };
        let cost =
            CostModel { seconds_per_batch: slower * 1e-3, flops_per_second: TRUTH.flops_per_second / slower, ..TRUTH };
        Machine { cost, noise: 0.05 }
    };
    let mut config = config(Preset::Latency);
    config.tuner.latency = Duration::from_millis(100);
    let report = run_changing(config, machine, load, |_| None, 12);
    let of = |from: f64, to: f64| -> Vec<f64> {
        report.ran.iter().filter(|r| (from..to).contains(&r.start)).map(|r| r.seconds).collect()
    };
    for (from, to) in [(20.0, 100.0), (110.0, 200.0), (210.0, 300.0)] {
        let p95 = quantile(&of(from, to), 0.95);
        assert!(p95 < 0.06, "{from} to {to} s: {p95}");
    }
    let (before, after) = (report.throughput(50.0, 100.0), report.throughput(250.0, 300.0));
    assert!(after > 0.9 * before, "{before} and {after}");
}

#[test]
fn ten_times_too_much_is_refused_and_nothing_else_changes() {
    let mut random = Random(13);
    let mut config = config(Preset::Throughput);
    config.capacity.tokens = 100_000;
    let load = merge((1..=10).map(|tenant| bulk(&mut random, 60.0, tenant, Priority::Normal)).collect());
    let offered: f64 =
        load.iter().map(|a| a.request.lengths.iter().map(|t| f64::from(*t)).sum::<f64>()).sum::<f64>() / 60.0;
    let report = run(config, MACHINE, load, 13);
    let got = report.throughput(10.0, 60.0);
    assert!(offered > 9.0 * got && got > 9000.0, "{offered} offered, {got} done");
    assert!(!report.refused.is_empty());
    // The queue holds some 10 s of work, of which a tenant has a tenth for what it has in it.
    let longest = report.outcomes.iter().map(Outcome::latency).fold(0.0, f64::max);
    println!("the longest took {longest:.1} s");
    assert!(report.outcomes.iter().all(|o| o.how == End::Done) && longest < 40.0, "{longest}");
    for (_, refused) in &report.refused {
        assert!(matches!(refused.cause, Refusal::Full | Refusal::Share));
        assert!(refused.retry_after.is_some_and(|after| after < Duration::from_secs(12)), "{refused:?}");
    }
}

#[test]
fn who_comes_back_when_told_to_is_accepted() {
    let mut random = Random(14);
    let mut config = config(Preset::Throughput);
    config.capacity.tokens = 40_000;
    // More than fits at once, once; then each comes when it was told.
    let load: Vec<Arrival> = (0..40)
        .map(|i| arrival(f64::from(i) * 1e-3, 1, Priority::Normal, vec![50 + (random.uniform() * 100.0) as u32; 64]))
        .collect();
    let tries = RefCell::new(0);
    let report = run_changing(
        config,
        |_| MACHINE,
        load,
        |event| match event {
            Event::Refused(at, refused, why) => {
                *tries.borrow_mut() += 1;
                let at = Duration::from_secs_f64(at) + why.retry_after.expect("a full queue says when");
                Some(Arrival { at, ..refused.clone() })
            }
            Event::Done(_) => None,
        },
        14,
    );
    assert_eq!(report.outcomes.len(), 40);
    let tries = *tries.borrow();
    println!("{tries} refusals until all 40 were accepted, in {:.1} s", report.end);
    assert!(tries < 40 * 12, "{tries}");
    // Waiting for the time told costs little: the machine hardly ever ran dry.
    assert!(report.busy() > 0.9, "{}", report.busy());
}

#[test]
fn deadlines_end_what_is_late_and_free_the_machine_for_the_rest() {
    let mut random = Random(15);
    let mut load = singles(&mut random, 60.0, 1000.0, 1, Priority::Normal);
    for arrival in &mut load {
        arrival.request.deadline = Some(arrival.at + Duration::from_millis(300));
    }
    let count = load.len();
    let report = run(config(Preset::Latency), MACHINE, load, 15);
    let done: Vec<f64> = report.of(Priority::Normal);
    assert_eq!(report.outcomes.len() + report.refused.len(), count);
    assert!(report.outcomes.iter().filter(|o| o.how == End::Expired).all(|o| o.latency() <= 0.3 + 1e-6));
    assert!(done.iter().all(|latency| *latency <= 0.3 + 1e-6));
    // Twice the load: about half is done, and none of the work is for nobody.
    let useful: f64 = report.outcomes.iter().filter(|o| o.how == End::Done).map(|o| o.tokens as f64).sum();
    let computed: f64 = report.ran.iter().map(|r| r.shape.tokens as f64).sum();
    assert!(done.len() * 5 > count * 2 && useful > 0.7 * computed, "{} of {count}, {useful} of {computed}", done.len());
}

#[test]
fn grouping_lengths_saves_most_of_the_padding_of_a_heavy_tail() {
    let load = |seed| {
        let mut random = Random(seed);
        (0..4000).map(|i| arrival(f64::from(i) * 1e-3, 1, Priority::Normal, vec![random.heavy()])).collect::<Vec<_>>()
    };
    let padded = Machine { cost: CostModel { padded: true, ..TRUTH }, noise: 0.03 };
    let mut config = config(Preset::Throughput);
    config.cost.padded = true;
    let grouped = run(config.clone(), padded, load(16), 16);
    config.grouping = Grouping { most_passes: 0, ..Grouping::default() };
    let plain = run(config, padded, load(16), 16);
    println!("padded batches: {:.1} s as they come, {:.1} s grouped", plain.end, grouped.end);
    assert!(grouped.end < 0.8 * plain.end, "{} and {}", grouped.end, plain.end);
    let totals = grouped.queue.statistics(Duration::ZERO).totals;
    assert!(totals.padding_saved > totals.padding && totals.padding > 0, "{totals:?}");
    // And with no padding at all nothing is to be saved by it.
    let packed = run(self::config(Preset::Throughput), MACHINE, load(16), 16);
    assert!(packed.end < grouped.end);
    assert_eq!(packed.queue.statistics(Duration::ZERO).totals.padding, 0);
}

/// A little more than the machine can do, as it was recorded: the urgent do not notice.
#[test]
fn what_was_recorded_is_answered_by_urgency() {
    for preset in PRESETS {
        let load = traces::recorded();
        let (count, tokens) =
            (load.len(), load.iter().flat_map(|a| &a.request.lengths).map(|t| f64::from(*t)).sum::<f64>());
        let report = run(config(preset), MACHINE, load, 17);
        assert_eq!((report.outcomes.len(), report.refused.len()), (count, 0));
        let [high, normal, low] = Priority::ALL.map(|priority| quantile(&report.of(priority), 0.95));
        println!(
            "{preset:?}: p95 {:.0}, {:.0} and {:.0} ms by priority, {:.1} s",
            high * 1e3,
            normal * 1e3,
            low * 1e3,
            report.end
        );
        let longest = report.ran.iter().map(|r| r.seconds).fold(0.0, f64::max);
        assert!(high <= 2.0 * longest && high <= normal && normal < low, "{preset:?}: {high}, {normal}, {low}");
        assert!(report.end < tokens / 8500.0, "{preset:?}: {} s", report.end);
    }
}
