//! W3C trace context (<https://www.w3.org/TR/trace-context/>): which trace a request belongs to.

/// Longest `tracestate` that is carried on; the standard allows to leave out a longer one.
const MAX_STATE: usize = 512;

/// The place in a trace that a request came from, or goes out from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span in it; never 0.
    pub span_id: u64,
    /// Whether whoever began it records it.
    pub sampled: bool,
    /// What vendors add, as it came.
    pub state: Option<String>,
}

/// `digits` lower-case hexadecimal digits, as the standard demands.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl TraceContext {
    /// Reads the headers `traceparent` and `tracestate`. None when the first is not valid, which is to be treated as
    /// if it were not there; a second that cannot be carried on is left out.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let mut parts = traceparent.trim().splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = hex(parts.next()?, 2)?;
        // Later versions may add something behind; ff is none.
        let known = version != 0xff && (version > 0 || parts.next().is_none());
        if !known || trace_id == 0 || span_id == 0 {
            return None;
        }
        let carried = |state: &&str| {
            !state.is_empty()
                && state.len() <= MAX_STATE
                && state.bytes().all(|b| matches!(b, b' '..=b'~'))
        };
        Some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
            state: tracestate.map(str::trim).filter(carried).map(str::to_owned),
        })
    }

    /// The header `traceparent`.
    pub fn traceparent(&self) -> String {
        format!(
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id,
            self.span_id,
            u8::from(self.sampled)
        )
    }

    /// Both headers in one text, as it is stored with an execution.
    pub fn to_text(&self) -> String {
        match &self.state {
            Some(state) => format!("{} {state}", self.traceparent()),
            None => self.traceparent(),
        }
    }

    /// Reads what [`Self::to_text`] wrote.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some((parent, state)) => Self::parse(parent, Some(state)),
            None => Self::parse(text, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_survives_the_headers_and_the_store() {
        let context =
            TraceContext::parse(PARENT, Some("rojo=00f067aa0ba902b7,congo=t61")).expect("valid");
        assert_eq!(context.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(
            (context.span_id, context.sampled),
            (0x00f0_67aa_0ba9_02b7, true)
        );
        assert_eq!(context.traceparent(), PARENT);
        assert_eq!(TraceContext::from_text(&context.to_text()), Some(context));
        let bare = TraceContext::parse(PARENT, None).expect("valid");
        assert_eq!(bare.to_text(), PARENT);
        assert_eq!(TraceContext::from_text(PARENT), Some(bare));
    }

    #[test]
    fn what_is_not_valid_is_as_if_it_were_not_there() {
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47+6-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(bad, None), None, "{bad}");
        }
        let later = format!("cc{}-what-comes", &PARENT[2..]);
        assert!(TraceContext::parse(&later, None).is_some());
        let unsampled = TraceContext::parse(&format!("{}00", &PARENT[..53]), None);
        assert!(!unsampled.expect("valid").sampled);
        for state in ["", "a=\u{e9}", &"x".repeat(513)] {
            let context = TraceContext::parse(PARENT, Some(state)).expect("valid");
            assert_eq!(context.state, None, "{state}");
        }
    }
}
