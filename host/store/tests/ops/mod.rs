//! Random operations, for tests that want a store in use.

use horarium_core::store::conformance::differential::Op;
use proptest::prelude::*;

/// Any operation.
pub(crate) fn op() -> impl Strategy<Value = Op> {
    let few = || 0..6_u8;
    prop_oneof![
        2 => (1..40_u8).prop_map(Op::Wait),
        3 => (few(), prop::option::weighted(0.3, few()), prop::bool::weighted(0.2))
            .prop_map(|(kind, key, paused)| Op::Create { kind, key, paused }),
        2 => (few(), prop::bool::weighted(0.2), any::<bool>(), any::<bool>())
            .prop_map(|(config, stale, paused, reanchor)| Op::Update { config, stale, paused, reanchor }),
        1 => (few(), any::<bool>()).prop_map(|(config, history)| Op::Delete { config, history }),
        1 => few().prop_map(Op::Purge),
        5 => enqueue(),
        1 => any::<u8>().prop_map(Op::EnqueueAgain),
        4 => fire(),
        1 => Just(Op::FireDue),
        2 => (1..20_u8).prop_map(Op::Sweep),
        6 => (0..8_u8, few()).prop_map(|(limit, types)| Op::Claim { limit, types }),
        5 => finish(),
        3 => any::<u8>().prop_map(|end| Op::FinishAll { end }),
        2 => (any::<u8>(), prop::option::of(0..20_u8), any::<bool>())
            .prop_map(|(which, due, recorded)| Op::Release { which, due, recorded }),
        2 => any::<u8>().prop_map(Op::Cancel),
        1 => any::<u8>().prop_map(Op::Progress),
        2 => Just(Op::Crash),
        1 => (few(), few(), any::<bool>())
            .prop_map(|(config, key, delete)| Op::SetState { config, key, delete }),
    ]
}

fn enqueue() -> impl Strategy<Value = Op> {
    let options = (
        prop::option::weighted(0.6, 0..6_u8),
        prop::option::weighted(0.2, 0..30_u8),
        prop::option::weighted(0.6, 0..6_u8),
        prop::bool::weighted(0.2),
    );
    (any::<u8>(), -5..20_i8, -2..3_i8, options).prop_map(
        |(count, due, priority, (config, expires, key, refuse))| Op::Enqueue {
            count,
            config,
            due,
            priority,
            expires,
            key,
            refuse,
        },
    )
}

fn fire() -> impl Strategy<Value = Op> {
    let rare = || prop::bool::weighted(0.2);
    let skip = prop::option::weighted(0.2, 0..3_u8);
    (0..6_u8, 0..4_u8, 0..4_u8, rare(), rare(), skip, rare()).prop_map(
        |(config, slots, overlap, missed, all, skip, stale)| Op::Fire {
            config,
            slots,
            overlap,
            missed,
            all,
            skip,
            stale,
        },
    )
}

fn finish() -> impl Strategy<Value = Op> {
    let state = prop::option::weighted(0.4, 0..12_u8);
    let rare = || prop::bool::weighted(0.15);
    (any::<u8>(), any::<u8>(), state, rare(), rare(), rare()).prop_map(
        |(which, end, state, pause, wrong, logs)| Op::Finish {
            which,
            end,
            state,
            pause,
            wrong,
            logs,
        },
    )
}
