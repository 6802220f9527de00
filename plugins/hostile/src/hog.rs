//! Takes memory and touches every page, until it has enough or the allocation fails and aborts.
use horarium_task::prelude::*;

/// How much is taken at once.
const CHUNK: u64 = 1 << 20;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Parameters {
    /// How much to take.
    bytes: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { bytes: 1 << 30 }
    }
}

/// What came of it.
#[derive(Serialize, JsonSchema)]
struct Done {
    bytes: u64,
}

struct Hog;

impl Task for Hog {
    type Parameters = Parameters;
    type Output = Done;
    const SUMMARY: &'static str = "Takes memory";

    fn run(parameters: Parameters) -> Result<Done, TaskError> {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0_u64;
        while bytes < parameters.bytes {
            let size = CHUNK.min(parameters.bytes - bytes);
            // Nothing tried: like most programs it aborts when there is no more.
            let mut chunk = vec![0_u8; size as usize];
            for page in chunk.chunks_mut(4096) {
                page[0] = 1;
            }
            taken.push(std::hint::black_box(chunk));
            bytes += size;
            progress::report(
                bytes as f64 / parameters.bytes as f64,
                format!("{bytes} bytes taken"),
            );
        }
        Ok(Done { bytes })
    }
}

horarium_task::export!(Hog);
