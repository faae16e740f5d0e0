//! The service `Embed`.

use super::{
    Service,
    call::{Answer, Answers, Call, stream, unary},
    proto::tei::{
        EmbedAllRequest, EmbedAllResponse, EmbedRequest, EmbedResponse, EmbedSparseRequest, EmbedSparseResponse,
        SparseValue, TokenEmbedding, embed_server::Embed,
    },
};
use crate::{
    dialect::tei::embed::{compute, dense, rows, terms},
    failure::Failure,
    pipeline::{Item, Row},
};
use tonic::{Request, Response, Status, Streaming, async_trait};

async fn embed(call: Call, message: EmbedRequest) -> Result<Answer<EmbedResponse>, Failure> {
    let how = call.how(message.truncate, message.truncation_direction, message.prompt_name);
    let wanted = dense(message.normalize, message.dimensions.map(|dims| dims as usize));
    let mut computed = compute(&call.asked, vec![Item::Text(message.inputs)], &how, wanted).await?;
    let embeddings = computed.rows.first_mut().map(|row| std::mem::take(&mut row.output.vector)).unwrap_or_default();
    Ok(Answer::computed(call.start, computed, |metadata| EmbedResponse { embeddings, metadata: Some(metadata) }))
}

async fn sparse(call: Call, message: EmbedSparseRequest) -> Result<Answer<EmbedSparseResponse>, Failure> {
    let how = call.how(message.truncate, message.truncation_direction, message.prompt_name);
    let computed = compute(&call.asked, vec![Item::Text(message.inputs)], &how, terms()).await?;
    let values = |row: &Row| {
        let sparse = &row.output.sparse;
        sparse.ids.iter().zip(&sparse.weights).map(|(&index, &value)| SparseValue { index, value }).collect()
    };
    let sparse_embeddings = computed.rows.first().map(values).unwrap_or_default();
    Ok(Answer::computed(call.start, computed, |metadata| EmbedSparseResponse {
        sparse_embeddings,
        metadata: Some(metadata),
    }))
}

async fn all(call: Call, message: EmbedAllRequest) -> Result<Answer<EmbedAllResponse>, Failure> {
    let how = call.how(message.truncate, message.truncation_direction, message.prompt_name);
    let computed = compute(&call.asked, vec![Item::Text(message.inputs)], &how, rows()).await?;
    let tokens = |row: &Row| {
        let rows = &row.output.rows;
        (0..rows.len()).map(|i| TokenEmbedding { embeddings: rows.row(i).to_vec() }).collect()
    };
    let token_embeddings = computed.rows.first().map(tokens).unwrap_or_default();
    Ok(Answer::computed(call.start, computed, |metadata| EmbedAllResponse {
        token_embeddings,
        metadata: Some(metadata),
    }))
}

#[async_trait]
impl Embed for Service {
    type EmbedStreamStream = Answers<EmbedResponse>;
    type EmbedSparseStreamStream = Answers<EmbedSparseResponse>;
    type EmbedAllStreamStream = Answers<EmbedAllResponse>;

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        unary(self, "/embed", request, embed).await
    }

    async fn embed_stream(
        &self,
        request: Request<Streaming<EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStreamStream>, Status> {
        stream(self, "/embed", request, embed)
    }

    async fn embed_sparse(
        &self,
        request: Request<EmbedSparseRequest>,
    ) -> Result<Response<EmbedSparseResponse>, Status> {
        unary(self, "/embed_sparse", request, sparse).await
    }

    async fn embed_sparse_stream(
        &self,
        request: Request<Streaming<EmbedSparseRequest>>,
    ) -> Result<Response<Self::EmbedSparseStreamStream>, Status> {
        stream(self, "/embed_sparse", request, sparse)
    }

    async fn embed_all(&self, request: Request<EmbedAllRequest>) -> Result<Response<EmbedAllResponse>, Status> {
        unary(self, "/embed_all", request, all).await
    }

    async fn embed_all_stream(
        &self,
        request: Request<Streaming<EmbedAllRequest>>,
    ) -> Result<Response<Self::EmbedAllStreamStream>, Status> {
        stream(self, "/embed_all", request, all)
    }
}
