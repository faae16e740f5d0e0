//! Fetching from the hub: what a revision holds through `hf-hub`, the files by ranged requests that go on where they stopped.
//!
//! Every file of a snapshot is taken at one commit, each is checked against its length and, where the hub gives one, its
//! SHA-256, and the reference that makes the snapshot visible is written last.

use super::{Environment, Progress, ResolveOptions, files, name, snapshot};
use embral_models::OnnxChoice;
use embral_types::{Error, ErrorKind, Result};
use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{Api, ApiBuilder, ApiError, ApiRepo},
};
use ring::digest;
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use ureq::{Agent, config::RedirectAuthHeaders};

/// How often one file is asked for again after its connection broke, provided that each time something arrived.
const ATTEMPTS: usize = 8;
const CONNECT: Duration = Duration::from_secs(20);
/// Without a byte for so long, a connection counts as broken.
const SILENCE: Duration = Duration::from_secs(60);

struct Hub<'a> {
    environment: &'a Environment,
    api: Api,
    agent: Agent,
    repo: &'a str,
}

/// Fetches what the engine reads of `repo` at `revision` into the cache; gives the snapshot.
pub(crate) fn fetch(
    environment: &Environment,
    repo: &str,
    revision: &str,
    options: ResolveOptions<'_>,
) -> Result<PathBuf> {
    let ResolveOptions { onnx, mut progress, .. } = options;
    let hub = Hub::new(environment, repo)?;
    let info = hub.at(revision).info().map_err(|e| hub.failed(&e, revision))?;
    name::check_revision(&info.sha)?;
    let names: Vec<&str> = info.siblings.iter().map(|s| s.rfilename.as_str()).collect();
    hub.check(&names, &onnx)?;
    let folder = snapshot::repo_folder(&environment.hub_cache, repo);
    let snapshot = folder.join("snapshots").join(&info.sha);
    for file in files::needed(&names, &onnx) {
        hub.file(&folder, &snapshot, &info.sha, file, &mut progress)?;
    }
    let missing = snapshot::missing(&snapshot, &onnx);
    if !missing.is_empty() {
        let message = format!("{repo} lacks {}", missing.join(", "));
        return Err(Error::new(ErrorKind::Unsupported, message).in_file(snapshot));
    }
    if !names.contains(&"modules.json")
        && let Some(mark) = snapshot::no_modules(&snapshot)
    {
        make_parent(&mark)?;
        File::create(&mark).map_err(|e| Error::io("cannot create", &mark, e))?;
    }
    if revision != info.sha {
        let reference = folder.join("refs").join(revision);
        make_parent(&reference)?;
        write_whole(&reference, info.sha.as_bytes())?;
    }
    Ok(snapshot)
}

impl<'a> Hub<'a> {
    fn new(environment: &'a Environment, repo: &'a str) -> Result<Self> {
        let api = ApiBuilder::from_cache(Cache::new(environment.hub_cache.clone()))
            .with_endpoint(environment.endpoint.clone())
            .with_token(environment.token.clone())
            .with_progress(false)
            .build()
            .map_err(|e| Error::new(ErrorKind::Network, format!("the hub client cannot start: {e}")))?;
        let agent = Agent::config_builder()
            .redirect_auth_headers(RedirectAuthHeaders::SameHost)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build()
            .into();
        Ok(Self { environment, api, agent, repo })
    }

    fn at(&self, revision: &str) -> ApiRepo {
        self.api.repo(Repo::with_revision(self.repo.to_owned(), RepoType::Model, revision.to_owned()))
    }

    fn check(&self, names: &[&str], onnx: &OnnxChoice) -> Result<()> {
        if files::graph(names, onnx).is_some() {
            return Ok(());
        }
        if onnx.is_named() {
            let graphs: Vec<&str> = names.iter().copied().filter(|name| name.ends_with(".onnx")).collect();
            let message = format!("{} has no such ONNX graph; it has {}", self.repo, graphs.join(", "));
            return Err(
                Error::new(ErrorKind::NotFound, message).hint("name one of them (--onnx=FILE), or leave --onnx out")
            );
        }
        let message = match files::weights(names) {
            files::Weights::One | files::Weights::Sharded | files::Weights::Graph => return Ok(()),
            files::Weights::Foreign => "has weights only in formats that are not read (such as tf_model.h5)",
            files::Weights::None => "has no weights",
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} {message}: expected {} or pytorch_model.bin", self.repo, files::ONE),
        )
        .hint("look for a revision of it that holds safetensors, such as --revision refs/pr/1"))
    }

    /// Puts one file into the snapshot.
    fn file(
        &self,
        folder: &Path,
        snapshot: &Path,
        commit: &str,
        file: &str,
        progress: &mut Option<&mut dyn Progress>,
    ) -> Result<()> {
        let target = snapshot.join(file);
        if target.is_file() {
            return Ok(());
        }
        wanted(progress)?;
        let url = self.at(commit).url(file);
        let found = self.api.metadata(&url).map_err(|e| self.failed(&e, commit).in_file(file))?;
        let etag = found.etag().trim_start_matches("W/");
        // The tag names a file in the cache, so it must not lead anywhere else.
        if !files::is_plain(etag) || etag.contains('/') {
            let message = format!("the hub gave a tag that names no blob: {etag:?}");
            return Err(Error::new(ErrorKind::Malformed, message).in_file(file));
        }
        let blob = folder.join("blobs").join(etag);
        let size = found.size() as u64;
        if fs::metadata(&blob).map(|m| m.len()).ok() != Some(size) {
            make_parent(&blob)?;
            if let Some(progress) = progress {
                progress.begin(file, size);
            }
            self.blob(&url, &blob, etag, size, progress).map_err(|e| e.in_file(file))?;
            if let Some(progress) = progress {
                progress.end();
            }
        }
        link(&blob, &target, file)
    }

    /// Downloads to `<blob>.incomplete`, as the Python tools do, and renames when it is whole and right.
    fn blob(
        &self,
        url: &str,
        blob: &Path,
        etag: &str,
        size: u64,
        progress: &mut Option<&mut dyn Progress>,
    ) -> Result<()> {
        let part = blob.with_file_name(format!("{etag}.incomplete"));
        let failed = |e: io::Error| Error::io("cannot write", &part, e);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&part).map_err(failed)?;
        // Held until the file is closed: of two processes one downloads and the other waits.
        file.lock().map_err(failed)?;
        if fs::metadata(blob).map(|m| m.len()).ok() == Some(size) {
            let _ = fs::remove_file(&part);
            return Ok(());
        }
        let mut have = file.metadata().map_err(failed)?.len();
        if have > size {
            file.set_len(0).map_err(failed)?;
            have = 0;
        }
        let mut told = have;
        if let Some(progress) = progress {
            progress.advance(have);
        }
        let mut idle = 0;
        while have < size {
            let before = have;
            let result = self.stretch(url, &mut file, &mut have, size, &mut |all: u64| {
                if let Some(progress) = progress
                    && all > told
                {
                    progress.advance(all - told);
                    told = all;
                }
                wanted(progress)
            });
            match result {
                Ok(()) if have == size => {}
                Err(e) if e.kind() != ErrorKind::Network => return Err(e),
                _ if have > before && idle < ATTEMPTS => idle += 1,
                Err(e) => return Err(e.hint(format!("{have} of {size} bytes are kept: run it again to go on"))),
                Ok(()) => {
                    let message = format!("the hub stopped after {have} of {size} bytes");
                    return Err(Error::new(ErrorKind::Network, message).hint("run it again to go on"));
                }
            }
        }
        file.sync_all().map_err(failed)?;
        if etag.len() == 64 && etag.bytes().all(|b| b.is_ascii_hexdigit()) {
            let found = sha256(&mut file).map_err(failed)?;
            if !found.eq_ignore_ascii_case(etag) {
                let _ = fs::remove_file(&part);
                let message = format!("the download is not what the hub announced: SHA-256 {found}, expected {etag}");
                return Err(Error::new(ErrorKind::Network, message).hint("run it again"));
            }
        }
        fs::rename(&part, blob).map_err(failed)
    }

    /// One request for what is left. `have` is how much lies in `file`, whatever the outcome.
    fn stretch(
        &self,
        url: &str,
        file: &mut File,
        have: &mut u64,
        size: u64,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let broken = |e: String| Error::new(ErrorKind::Network, format!("{url}: {e}"));
        let mut request = self.agent.get(url).header("Accept-Encoding", "identity");
        if let Some(token) = &self.environment.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if *have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = request.call().map_err(|e| broken(e.to_string()))?;
        // A server may answer with the whole file although a part was asked for.
        if response.status().as_u16() != 206 {
            *have = 0;
        }
        let mut body = response.into_body().into_reader();
        file.seek(SeekFrom::Start(*have)).map_err(|e| Error::new(ErrorKind::Io, e.to_string()))?;
        let mut buffer = vec![0; 1 << 17];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(e.to_string())),
            };
            if *have + n as u64 > size {
                return Err(Error::new(ErrorKind::Malformed, format!("{url}: longer than the {size} bytes announced")));
            }
            file.write_all(&buffer[..n]).map_err(|e| Error::new(ErrorKind::Io, format!("cannot write: {e}")))?;
            *have += n as u64;
            told(*have)?;
        }
    }

    /// What a failure of the hub means and what to do about it.
    fn failed(&self, e: &ApiError, revision: &str) -> Error {
        let (repo, endpoint) = (self.repo, &self.environment.endpoint);
        let status = match e {
            ApiError::RequestError(request) => match **request {
                ureq::Error::StatusCode(status) => Some(status),
                _ => None,
            },
            _ => None,
        };
        match status {
            Some(401 | 403) => Error::new(
                ErrorKind::Network,
                format!(
                    "{endpoint} gives no access to {repo} (status {}): there is no such model, or it needs a token",
                    status.unwrap_or(0)
                ),
            )
            .hint("check the name, accept its terms on the hub, set HF_TOKEN"),
            Some(404) => Error::new(ErrorKind::NotFound, format!("{endpoint} has no {repo} at revision {revision}"))
                .hint("check the name and the revision"),
            Some(429) => Error::new(ErrorKind::Network, format!("{endpoint} refuses for now: too many requests"))
                .hint("try again later, or set HF_TOKEN"),
            Some(status) => Error::new(ErrorKind::Network, format!("{endpoint} answers {repo} with status {status}"))
                .hint("try again later"),
            None => Error::new(ErrorKind::Network, format!("{endpoint} did not deliver {repo}: {e}"))
                .hint("without a network: embral models import FILE"),
        }
    }
}

/// Fails where nobody waits for the download any more.
fn wanted(progress: &Option<&mut dyn Progress>) -> Result<()> {
    match progress {
        Some(progress) if !progress.is_wanted() => {
            Err(Error::new(ErrorKind::Io, "the download was given up").hint("what came is kept: run it again to go on"))
        }
        _ => Ok(()),
    }
}

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(|e| Error::io("cannot create the folder", parent, e))
}

/// Writes beside and renames, so that a reader sees the old content or the new.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path)).map_err(|e| Error::io("cannot write", path, e))
}

/// Makes the snapshot's file a link to its blob, relative, as the Python tools do; a copy where links are not allowed.
fn link(blob: &Path, target: &Path, file: &str) -> Result<()> {
    make_parent(target)?;
    let up = "../".repeat(2 + file.matches('/').count());
    let to = PathBuf::from(up).join("blobs").join(blob.file_name().unwrap_or_default());
    // What is there can only be a link to a blob that is gone.
    let _ = fs::remove_file(target);
    #[cfg(unix)]
    let linked = std::os::unix::fs::symlink(&to, target);
    #[cfg(windows)]
    let linked = std::os::windows::fs::symlink_file(&to, target);
    #[cfg(not(any(unix, windows)))]
    let linked: io::Result<()> = Err(io::ErrorKind::Unsupported.into());
    match linked {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::copy(blob, target).map(|_| ()).map_err(|e| Error::io("cannot write", target, e)),
        Ok(()) => Ok(()),
    }
}

fn sha256(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => context.update(&buffer[..n]),
        }
    }
    Ok(context.finish().as_ref().iter().map(|b| format!("{b:02x}")).collect())
}
