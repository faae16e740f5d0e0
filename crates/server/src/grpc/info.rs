//! The service `Info`.

use super::{
    Service,
    call::{Answer, Call, unary},
    proto::tei::{InfoRequest, InfoResponse, ModelType, info_server::Info},
};
use crate::{dialect::tei::info::facts, failure::Failure};
use tonic::{Request, Response, Status, async_trait};

async fn info(call: Call, _: InfoRequest) -> Result<Answer<InfoResponse>, Failure> {
    let facts = facts(&call.asked, call.model.as_deref()).await?;
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let kind = match () {
        () if facts.model_type.get("reranker").is_some() => ModelType::Reranker,
        () if facts.model_type.get("classifier").is_some() => ModelType::Classifier,
        () => ModelType::Embedding,
    };
    Ok(Answer::of(InfoResponse {
        version: facts.version.to_owned(),
        sha: facts.sha.map(str::to_owned),
        docker_label: facts.docker_label.map(str::to_owned),
        model_id: facts.model_id,
        model_sha: facts.model_sha,
        model_dtype: facts.model_dtype.to_owned(),
        model_type: kind.into(),
        max_concurrent_requests: number(facts.max_concurrent_requests),
        max_input_length: number(facts.max_input_length),
        max_batch_tokens: u32::try_from(facts.max_batch_tokens).unwrap_or(u32::MAX),
        max_batch_requests: facts.max_batch_requests.map(number),
        max_client_batch_size: number(facts.max_client_batch_size),
        tokenization_workers: number(facts.tokenization_workers),
    }))
}

#[async_trait]
impl Info for Service {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        unary(self, "/info", request, info).await
    }
}
