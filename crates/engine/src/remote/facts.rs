//! What a server tells of itself before the first text: its kind, its model, its limits.

use super::{
    Address, Kind,
    client::{Client, Failure, Request},
};
use embral_types::{Error, ErrorKind, Pooling, Result};
use serde_json::Value;

/// What was found out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// As requests name it; empty where they need not.
    pub(super) model: String,
    /// The model as the server calls it, where the address leaves that to it.
    pub(super) told: Option<String>,
    /// Texts of a request.
    pub(super) batch: Option<usize>,
    pub(super) max_tokens: Option<usize>,
    pub(super) pooling: Option<Pooling>,
    /// What tells this model's contents from those of another of its name.
    pub(super) digest: String,
}

/// The JSON at a path; nothing where the server does not know the path.
fn ask(client: &Client, url: &str) -> Result<Option<Value>> {
    let read = |reply: super::Reply| -> Result<_, Failure> { Ok((serde_json::from_slice(&reply.body).ok(), None)) };
    match client.ask(&Request::get(url), read) {
        Ok(json) => Ok(json),
        // Not a route of this server, or one that it keeps to itself.
        Err(failure) if matches!(failure.status(), Some(400 | 404 | 405 | 406 | 501)) => Ok(None),
        Err(failure) => Err(failure.error(url, "")),
    }
}

/// The kind of the server at `base`, by the routes that only one kind has.
pub(super) fn kind(client: &Client, base: &str) -> Result<Kind> {
    let has = |path: &str, field: &str| -> Result<bool> {
        Ok(ask(client, &format!("{base}{path}"))?.is_some_and(|json| !json[field].is_null()))
    };
    if has("/info", "model_id")? {
        return Ok(Kind::Tei);
    }
    if has("/api/version", "version")? {
        return Ok(Kind::Ollama);
    }
    if has("/v1/models", "data")? || has("/models", "data")? {
        return Ok(Kind::OpenAi);
    }
    let message = format!("{base}: the server does not tell of which kind it is");
    Err(Error::new(ErrorKind::Unsupported, message)
        .hint("state it: openai+, tei+, ollama+ or cohere+ before http in the address"))
}

/// What a server of that kind tells. `bare` is an address without a path.
pub(super) fn of(kind: Kind, client: &Client, address: &Address, bare: bool) -> Result<Facts> {
    let base = &address.base;
    match kind {
        Kind::Tei => {
            let info = ask(client, &format!("{base}/info"))?.unwrap_or_default();
            let told = info["model_id"].as_str().filter(|_| address.model.is_none()).map(str::to_owned);
            Ok(Facts { told, ..tei(base, &info)? })
        }
        Kind::Ollama => {
            let tags = ask(client, &format!("{base}/api/tags"))?.unwrap_or_default();
            ollama(base, &tags, address.model.as_deref())
        }
        Kind::OpenAi => {
            if let Some(model) = &address.model {
                return Ok(Facts { model: model.clone(), ..Facts::default() });
            }
            let list = ask(client, &format!("{base}{}", if bare { "/v1/models" } else { "/models" }))?;
            only(base, &names(&list.unwrap_or_default()["data"], "id"))
        }
        Kind::Cohere => match &address.model {
            Some(model) => Ok(Facts { model: model.clone(), ..Facts::default() }),
            None => only(base, &[]),
        },
    }
}

fn tei(base: &str, info: &Value) -> Result<Facts> {
    if let Some(kind) = info["model_type"].as_object().and_then(|kinds| kinds.keys().next())
        && kind != "embedding"
    {
        let message = format!("{base}: expected a model of embeddings, found a {kind}");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let number = |field: &str| info[field].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let pooling = match info["model_type"]["embedding"]["pooling"].as_str() {
        Some("cls") => Some(Pooling::Cls),
        Some("mean") => Some(Pooling::Mean),
        Some("last_token") => Some(Pooling::Last),
        _ => None,
    };
    let parts = ["model_id", "model_sha", "model_dtype", "model_type", "version"].map(|field| info[field].to_string());
    Ok(Facts {
        model: String::new(),
        told: None,
        batch: number("max_client_batch_size"),
        max_tokens: number("max_input_length"),
        pooling,
        digest: parts.join(" "),
    })
}

fn ollama(base: &str, tags: &Value, model: Option<&str>) -> Result<Facts> {
    let names = names(&tags["models"], "name");
    let (model, told) = match model {
        Some(model) => (model.to_owned(), None),
        None => {
            let only = only(base, &names)?;
            (only.model, only.told)
        }
    };
    // A name without a tag is that of the tag `latest`.
    let full = if model.contains(':') { model.clone() } else { format!("{model}:latest") };
    let found = tags["models"].as_array().and_then(|models| models.iter().find(|m| m["name"] == *full));
    if found.is_none() && !names.is_empty() {
        let message = format!("{base}: expected the model {model}, found {}", names.join(", "));
        return Err(Error::new(ErrorKind::NotFound, message).hint(format!("ollama pull {model}")));
    }
    let digest = found.and_then(|m| m["digest"].as_str()).unwrap_or_default().to_owned();
    Ok(Facts { model, told, digest, ..Facts::default() })
}

fn names(list: &Value, field: &str) -> Vec<String> {
    let names = list.as_array().into_iter().flatten().filter_map(|model| model[field].as_str());
    names.map(str::to_owned).collect()
}

/// The one model there is.
fn only(base: &str, names: &[String]) -> Result<Facts> {
    match names {
        [model] => Ok(Facts { model: model.clone(), told: Some(model.clone()), ..Facts::default() }),
        _ => {
            let found = if names.is_empty() { "no list of models".to_owned() } else { names.join(", ") };
            let message = format!("{base}: the address names no model, and the server has {found}");
            Err(Error::new(ErrorKind::InvalidInput, message).hint("put ?model=NAME behind the address"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tei_tells_its_limits_and_which_model_it_has() {
        let info = json!({ "model_id": "m", "model_sha": "abc", "model_dtype": "float16", "max_client_batch_size": 8,
            "max_input_length": 512, "model_type": { "embedding": { "pooling": "cls" } }, "version": "1.9" });
        let facts = tei("b", &info).unwrap();
        assert_eq!((facts.batch, facts.max_tokens, facts.pooling), (Some(8), Some(512), Some(Pooling::Cls)));
        let mut other = info.clone();
        other["model_sha"] = "abd".into();
        assert_ne!(tei("b", &other).unwrap().digest, facts.digest);
        let reranker = tei("b", &json!({ "model_type": { "reranker": {} } })).unwrap_err();
        assert!(reranker.to_string().contains("found a reranker"));
        assert_eq!(tei("b", &Value::Null).unwrap().batch, None);
    }

    #[test]
    fn ollama_has_the_model_or_says_which_it_has() {
        let tags = json!({ "models": [{ "name": "a:latest", "digest": "1" }, { "name": "b:v2", "digest": "2" }] });
        assert_eq!(ollama("b", &tags, Some("a")).unwrap().digest, "1");
        assert_eq!(ollama("b", &tags, Some("b:v2")).unwrap().digest, "2");
        let absent = ollama("b", &tags, Some("b")).unwrap_err().to_string();
        assert!(absent.contains("found a:latest, b:v2 (ollama pull b)"), "{absent}");
        assert!(ollama("b", &tags, None).unwrap_err().to_string().contains("?model=NAME"));
        let one = json!({ "models": [{ "name": "a:latest", "digest": "1" }] });
        let facts = ollama("b", &one, None).unwrap();
        assert_eq!((facts.model.as_str(), facts.digest.as_str()), ("a:latest", "1"));
    }
}
