//! Which trace an attempt belongs to. Its ids are computed from the claim, so that whoever runs it, sends requests for
//! it and tells of it names the same spans without asking the others.

use crate::store::Claimed;
use horarium_model::TaskId;
use horarium_model::trace::TraceContext;

tokio::task_local! {
    /// The trace of the request that is being answered.
    static CURRENT: Option<TraceContext>;
}

/// Answers a request that belongs to a trace: executions that `work` enqueues belong to it too.
pub async fn within<F: Future>(context: Option<TraceContext>, work: F) -> F::Output {
    CURRENT.scope(context, work).await
}

/// The trace of the request that is being answered; none outside of [`within`].
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// The trace of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTrace {
    /// The trace: that of the trigger, else one for all attempts of the execution.
    pub trace_id: u128,
    /// The span that the trigger came from.
    pub parent: Option<u64>,
    /// The attempt's span.
    pub span_id: u64,
    /// Whether it is recorded.
    pub sampled: bool,
    state: Option<String>,
    task_id: TaskId,
    claim: u32,
}

impl RunTrace {
    /// The trace of a claim; none when no trigger brought one and this host records none. `sample` is the share of
    /// executions without a trigger's trace that this host records, from 0 to 1; none when it records none at all.
    pub fn of(claimed: &Claimed, sample: Option<f64>) -> Option<Self> {
        let (task_id, claim) = (claimed.task_id, claimed.claim);
        let span_id = span_id(task_id, claim, 0);
        if let Some(context) = &claimed.trace {
            return Some(Self {
                trace_id: context.trace_id,
                parent: Some(context.span_id),
                span_id,
                sampled: context.sampled,
                state: context.state.clone(),
                task_id,
                claim,
            });
        }
        let share = sample?;
        // Of an id of version 7 these bits are random.
        let random = task_id.as_u128() as u64 & ((1 << 53) - 1);
        Some(Self {
            trace_id: task_id.as_u128(),
            parent: None,
            span_id,
            sampled: (random as f64) < share * (1_u64 << 53) as f64,
            state: None,
            task_id,
            claim,
        })
    }

    /// The span of one of its outgoing requests.
    pub fn call_span(&self, call: u64) -> u64 {
        span_id(self.task_id, self.claim, call + 1)
    }

    /// What the headers of one of its outgoing requests say.
    pub fn outgoing(&self, call: u64) -> TraceContext {
        TraceContext {
            span_id: self.call_span(call),
            ..self.place()
        }
    }

    /// The attempt as the parent of what it sets off.
    pub fn place(&self) -> TraceContext {
        TraceContext {
            trace_id: self.trace_id,
            span_id: self.span_id,
            sampled: self.sampled,
            state: self.state.clone(),
        }
    }
}

fn span_id(task_id: TaskId, claim: u32, part: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(task_id.as_bytes());
    hasher.update(&claim.to_be_bytes());
    hasher.update(&part.to_be_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 0 is no span.
    u64::from_be_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use horarium_model::{Timestamp, Trigger};

    fn claimed(claim: u32, trace: Option<TraceContext>) -> Claimed {
        Claimed {
            id: 1,
            task_id: uuid::Uuid::from_u128(0x0198_0000_0000_7000_8abc_def0_1234_5678),
            claim,
            attempt: claim,
            tenant_id: 1,
            config_id: None,
            config_version: None,
            task_type: "t".into(),
            trigger: Trigger::Manual,
            slot: None,
            due_at: Timestamp::UNIX_EPOCH,
            max_attempts: 3,
            parameters: "{}".into(),
            parent_task_id: None,
            retry_of: None,
            chained: false,
            trace,
            allowance: Default::default(),
        }
    }

    #[test]
    fn attempts_share_the_trace_and_have_spans_of_their_own() {
        let context = TraceContext::parse(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            Some("a=b"),
        );
        let first = RunTrace::of(&claimed(1, context.clone()), None).expect("a trace");
        let second = RunTrace::of(&claimed(2, context.clone()), Some(0.0)).expect("a trace");
        assert_eq!(first.trace_id, second.trace_id);
        assert_eq!(first.parent, context.as_ref().map(|c| c.span_id));
        assert!(first.sampled && second.sampled, "as the trigger says");
        let spans = [
            first.span_id,
            second.span_id,
            first.call_span(0),
            first.call_span(1),
            second.call_span(0),
        ];
        let distinct: std::collections::HashSet<u64> = spans.into_iter().collect();
        assert_eq!(distinct.len(), spans.len());
        let out = first.outgoing(1);
        assert_eq!(
            (out.trace_id, out.span_id),
            (first.trace_id, first.call_span(1))
        );
        assert_eq!(out.state.as_deref(), Some("a=b"));
        let place = first.place();
        assert_eq!((place.span_id, place.sampled), (first.span_id, true));
    }

    #[test]
    fn without_a_trigger_s_trace_the_host_decides() {
        assert_eq!(RunTrace::of(&claimed(1, None), None), None);
        let all = RunTrace::of(&claimed(1, None), Some(1.0)).expect("a trace");
        assert!(all.sampled && all.parent.is_none());
        assert_eq!(all.trace_id, claimed(1, None).task_id.as_u128());
        let none = RunTrace::of(&claimed(1, None), Some(0.0)).expect("a trace");
        assert!(!none.sampled);
    }

    #[tokio::test]
    async fn a_request_s_trace_is_known_while_it_is_answered() {
        let context = TraceContext::parse(
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            None,
        );
        assert_eq!(current(), None);
        let seen = within(context.clone(), async { current() }).await;
        assert_eq!(seen, context);
    }
}
