//! ONNX Runtime, as a library that is found on the machine when the first graph is opened, with its execution providers.

use super::{Runtime, Wanted, failed};
use crate::signature::{Number, Signature};
use ::ort::{
    environment::Environment,
    ep::{self, ExecutionProvider, ExecutionProviderDispatch},
    logging::LogLevel,
    session::{Session, SessionInputValue},
    value::Tensor,
};
use embral_types::{Error, ErrorKind, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
};

/// The variable that names the library, as every program on ONNX Runtime has it.
const VARIABLE: &str = "ORT_DYLIB_PATH";

/// An execution provider that computes elsewhere than on the plain CPU.
struct Provider {
    /// For people.
    name: &'static str,
    /// In ONNX Runtime.
    identifier: &'static str,
    /// Whether the library was built with it, which does not say that it runs.
    compiled: fn() -> bool,
    /// Its settings: no numbers of fewer bits than the graph has.
    dispatch: fn() -> ExecutionProviderDispatch,
}

/// Every provider, in the order in which they are tried. TensorRT comes behind CUDA: it compiles the graph anew for lengths that it has
/// not seen.
const PROVIDERS: [Provider; 6] = [
    Provider {
        name: "CUDA",
        identifier: ep::CUDA::NAME,
        compiled: || ep::CUDA::is_available().unwrap_or(false),
        dispatch: || ep::CUDA::default().with_tf32(false).build(),
    },
    Provider {
        name: "TensorRT",
        identifier: ep::TensorRT::NAME,
        compiled: || ep::TensorRT::is_available().unwrap_or(false),
        dispatch: || ep::TensorRT::default().build(),
    },
    Provider {
        name: "CoreML",
        identifier: ep::CoreML::NAME,
        compiled: || ep::CoreML::is_available().unwrap_or(false),
        dispatch: || ep::CoreML::default().build(),
    },
    Provider {
        name: "DirectML",
        identifier: ep::DirectML::NAME,
        compiled: || ep::DirectML::is_available().unwrap_or(false),
        dispatch: || ep::DirectML::default().build(),
    },
    Provider {
        name: "ROCm",
        identifier: ep::ROCm::NAME,
        compiled: || ep::ROCm::is_available().unwrap_or(false),
        dispatch: || ep::ROCm::default().build(),
    },
    Provider {
        name: "OpenVINO",
        identifier: ep::OpenVINO::NAME,
        compiled: || ep::OpenVINO::is_available().unwrap_or(false),
        dispatch: || ep::OpenVINO::default().with_precision("FP32").build(),
    },
];

/// An ONNX Runtime in this process.
pub(crate) struct Library {
    environment: Environment,
    file: PathBuf,
}

impl Library {
    /// The library of this process, looked for once: where `ORT_DYLIB_PATH` says, else beside the program, else where the system looks.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn find() -> Result<&'static Self, String> {
        static FOUND: OnceLock<Result<Library, String>> = OnceLock::new();
        FOUND.get_or_init(Self::load).as_ref().map_err(Clone::clone)
    }

    fn load() -> Result<Self, String> {
        let named = env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = named.clone().unwrap_or_else(|| {
            let name = format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
            let beside = env::current_exe().ok().and_then(|program| Some(program.parent()?.join(&name)));
            beside.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
        });
        let hint = if named.is_some() { "" } else { "; ORT_DYLIB_PATH says where it is" };
        let environment = ::ort::init_from(&file).map_err(|e| format!("no ONNX Runtime: {e}{hint}"))?;
        // Builds by Microsoft report what they run unless told not to.
        let environment = environment.with_telemetry(false).build().map_err(|e| format!("no ONNX Runtime: {e}"))?;
        // What fails is an error here, and said in one line; the library would say it again in many.
        environment.set_log_level(LogLevel::Fatal);
        Ok(Self { environment, file })
    }

    /// The graph on the first provider that computes it, with what the others failed with.
    pub(crate) fn accelerated(&'static self, wanted: &Wanted<'_>) -> (Option<Accelerated>, Vec<String>) {
        let mut failures = Vec::new();
        for provider in PROVIDERS.iter().filter(|provider| (provider.compiled)()) {
            match self.on(provider, wanted) {
                Ok(found) => return (Some(found), failures),
                Err(why) => failures.push(format!("{}: {}", provider.name, reason(&why))),
            }
        }
        (None, failures)
    }

    /// The graph on a provider, which counts where it is registered, the session is made, and a run has put at least one operator on it.
    fn on(&'static self, provider: &Provider, wanted: &Wanted<'_>) -> Result<Accelerated, String> {
        let text = |e: ::ort::Error| e.to_string();
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut builder = Session::builder(&self.environment)
            .map_err(text)?
            .with_intra_threads(wanted.threads)
            .map_err(|e| e.to_string())?
            .with_profiling(folder.path().join("run"))
            .map_err(|e| e.to_string())?
            .with_execution_providers([(provider.dispatch)().error_on_failure()])
            .map_err(|e| e.to_string())?;
        let session = builder.commit_from_file(wanted.file).map_err(text)?;
        let found = Accelerated {
            session: Mutex::new(session),
            signature: wanted.signature.clone(),
            on: format!("{} (ONNX Runtime)", provider.name),
        };
        found.compute(wanted.probe, wanted.probe.first().map_or(0, Vec::len)).map_err(|e| e.message().to_owned())?;
        let profile = found.lock().end_profiling().map_err(text)?;
        match fs::read(&profile).map(|profile| operators_on(&profile, provider.identifier)) {
            Ok(0) => Err("it takes no operator of the graph".to_owned()),
            Ok(_) => Ok(found),
            Err(e) => Err(format!("what it ran is not known: {e}")),
        }
    }

    /// The graph on the CPU.
    pub(crate) fn on_cpu(&'static self, wanted: &Wanted<'_>) -> Result<Accelerated> {
        let refused =
            |e: String| Error::new(ErrorKind::Unsupported, format!("ONNX Runtime cannot load the graph: {e}"));
        let session = Session::builder(&self.environment)
            .map_err(|e| refused(e.to_string()))?
            .with_intra_threads(wanted.threads)
            .map_err(|e| refused(e.to_string()))?
            .commit_from_file(wanted.file)
            .map_err(|e| refused(e.to_string()))?;
        Ok(Accelerated {
            session: Mutex::new(session),
            signature: wanted.signature.clone(),
            on: "cpu (ONNX Runtime)".to_owned(),
        })
    }

    /// Where it was found.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }
}

/// The operators that a run put on a provider, as its profile says.
fn operators_on(profile: &[u8], provider: &str) -> usize {
    let events: Vec<serde_json::Value> = serde_json::from_slice(profile).unwrap_or_default();
    events.iter().filter(|event| event["args"]["provider"].as_str() == Some(provider)).count()
}

/// What went wrong, without the place in the source, the kind and the number that stand before it.
fn reason(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    let said = line.split_once("[ONNXRuntimeError]").and_then(|(_, rest)| rest.splitn(4, " : ").nth(3));
    said.unwrap_or(line).trim()
}

/// A graph that ONNX Runtime computes.
pub(crate) struct Accelerated {
    session: Mutex<Session>,
    signature: Signature,
    on: String,
}

impl Accelerated {
    fn lock(&self) -> std::sync::MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runtime for Accelerated {
    fn describe(&self) -> String {
        self.on.clone()
    }

    fn compute(&self, inputs: &[Vec<i64>], length: usize) -> Result<(Vec<usize>, Vec<f32>)> {
        let shape = [1, length];
        let error = |e: ::ort::Error| failed(length, reason(&e.to_string()));
        let mut given: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (input, values) in self.signature.inputs.iter().zip(inputs) {
            let value = match input.number {
                Number::I64 => Tensor::from_array((shape, values.clone())).map_err(error)?.into(),
                Number::I32 => {
                    let values: Vec<i32> = values.iter().map(|&v| v as i32).collect();
                    Tensor::from_array((shape, values)).map_err(error)?.into()
                }
                Number::F32 => {
                    let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
                    Tensor::from_array((shape, values)).map_err(error)?.into()
                }
            };
            given.push((&input.name, value));
        }
        let mut session = self.lock();
        let outputs = session.run(given).map_err(error)?;
        let output = outputs.get(&self.signature.output).ok_or_else(|| failed(length, "it gave nothing"))?;
        let sizes = |shape: &[i64]| shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        if let Ok((shape, values)) = output.try_extract_tensor::<f32>() {
            return Ok((sizes(shape), values.to_vec()));
        }
        if let Ok((shape, values)) = output.try_extract_tensor::<half::f16>() {
            return Ok((sizes(shape), values.iter().map(|v| v.to_f32()).collect()));
        }
        let (shape, values) =
            output.try_extract_tensor::<f64>().map_err(|_| failed(length, "its output is not of floats"))?;
        Ok((sizes(shape), values.iter().map(|&v| v as f32).collect()))
    }

    /// One: a session spreads a text over its own threads.
    fn at_once(&self) -> usize {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_from_where() {
        let whole = "/src/bridge.cc:2043 Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load x : no such file\nmore";
        assert_eq!(reason(whole), "Failed to load x : no such file");
        assert_eq!(reason("it takes no operator\n"), "it takes no operator");
    }

    #[test]
    fn operators_are_counted_by_their_provider() {
        let profile = br#"[{"name": "a", "args": {"provider": "CUDAExecutionProvider"}}, {"args": {"provider": "CPUExecutionProvider"}},
            {"name": "session", "args": {}}, {"args": {"provider": "CUDAExecutionProvider"}}]"#;
        assert_eq!(operators_on(profile, ep::CUDA::NAME), 2);
        assert_eq!(operators_on(profile, ep::TensorRT::NAME), 0);
        assert_eq!(operators_on(b"no profile", ep::CUDA::NAME), 0);
    }
}
