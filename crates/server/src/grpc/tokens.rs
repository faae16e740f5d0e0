//! The service `Tokenize`.

use super::{
    Service,
    call::{Answer, Answers, Call, stream, unary},
    proto::tei::{
        DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, SimpleToken, tokenize_server::Tokenize,
    },
};
use crate::{
    dialect::tei::{
        How,
        tokens::{Token, decoded, tokenized},
    },
    failure::Failure,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

async fn encode(call: Call, message: EncodeRequest) -> Result<Answer<EncodeResponse>, Failure> {
    let how = How { prompt_name: message.prompt_name, model: call.model, ..How::default() };
    let tokens = tokenized(&call.asked, how, vec![message.inputs], message.add_special_tokens).await?;
    let place = |at: Option<usize>| at.and_then(|at| u32::try_from(at).ok());
    let token = |token: Token| SimpleToken {
        id: token.id,
        text: token.text,
        special: token.special,
        start: place(token.start),
        stop: place(token.stop),
    };
    Ok(Answer::of(EncodeResponse { tokens: tokens.into_iter().flatten().map(token).collect() }))
}

async fn decode(call: Call, message: DecodeRequest) -> Result<Answer<DecodeResponse>, Failure> {
    let skip = message.skip_special_tokens;
    let texts = decoded(&call.asked, call.model.as_deref(), vec![message.ids], skip).await?;
    Ok(Answer::of(DecodeResponse { text: texts.concat() }))
}

#[async_trait]
impl Tokenize for Service {
    type TokenizeStreamStream = Answers<EncodeResponse>;
    type DecodeStreamStream = Answers<DecodeResponse>;

    async fn tokenize(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        unary(self, "/tokenize", request, encode).await
    }

    async fn tokenize_stream(
        &self,
        request: Request<Streaming<EncodeRequest>>,
    ) -> Result<Response<Self::TokenizeStreamStream>, Status> {
        stream(self, "/tokenize", request, encode)
    }

    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        unary(self, "/decode", request, decode).await
    }

    async fn decode_stream(
        &self,
        request: Request<Streaming<DecodeRequest>>,
    ) -> Result<Response<Self::DecodeStreamStream>, Status> {
        stream(self, "/decode", request, decode)
    }
}
