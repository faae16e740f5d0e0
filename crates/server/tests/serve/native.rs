//! `/embral/v1`.

use crate::support::{bits, bits_of, golden, golden_config, of_task, settings, start, task};
use embral::{
    Classifier, Config, Embedder, Joint, JointEmbedder, Prompt, Reranker, base64,
    chunk::{Aggregate, Chunking},
    quantize::{Quantization, quantize},
};
use embral_server::Settings;
use embral_testkit::tasks::TaskGolden;
use serde_json::{Value, json};

#[test]
fn vectors_in_every_form() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let texts = ["a cat sat on the mat", "interest rates rose"];
    let rows = Embedder::with_config(golden_config("tiny_bert")).unwrap().embed_batch(&texts).unwrap();
    let body = json!({ "input": texts, "encodings": ["float", "base64", "f16", "binary", "ubinary"] });
    let reply = server.post("/embral/v1/embed", &body).json(200);
    let row = |form| quantize(&rows, form, None).unwrap();
    for i in 0..texts.len() {
        let data = &reply["data"][i];
        assert_eq!(bits_of(&data["embedding"]), bits(rows.row(i)));
        assert_eq!(bits(&base64::decode(data["base64"].as_str().unwrap()).unwrap()), bits(rows.row(i)));
        assert_eq!(base64::decode_bytes(data["f16"].as_str().unwrap()).unwrap(), row(Quantization::F16).row(i));
        let bytes = |name: &str| -> Vec<i64> { serde_json::from_value(data[name].clone()).unwrap() };
        let ubinary: Vec<i64> = row(Quantization::Ubinary).row(i).iter().map(|b| i64::from(*b)).collect();
        assert_eq!(bytes("ubinary"), ubinary);
        let binary: Vec<i64> = row(Quantization::Binary).row(i).iter().map(|b| i64::from(b.cast_signed())).collect();
        assert_eq!(bytes("binary"), binary);
    }
    assert!(reply["timings"]["inference_ms"].as_f64().unwrap() > 0.0, "{reply}");
    // The ranges of int8 are never those of a batch.
    let reply = server.post("/embral/v1/embed", &json!({ "input": texts, "encodings": ["int8"] })).json(501);
    assert!(reply["error"]["message"].as_str().unwrap().contains("embral calibrate"), "{reply}");
}

#[test]
fn prompts_truncation_and_lengths_are_as_asked() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let reply = server.post("/embral/v1/embed", &json!({ "input": "a cat", "prompt": "about: " })).json(200);
    let row = embedder.embed_batch_as(&["a cat"], Prompt::Text("about: ")).unwrap().into_vec();
    assert_eq!(bits_of(&reply["data"][0]["embedding"]), bits(&row));
    let raw = Config { normalize: Some(false), dims: Some(6), ..golden_config("tiny_bert") };
    let row = Embedder::with_config(raw).unwrap().embed("a cat").unwrap();
    let reply =
        server.post("/embral/v1/embed", &json!({ "input": "a cat", "dimensions": 6, "normalize": false })).json(200);
    assert_eq!(bits_of(&reply["data"][0]["embedding"]), bits(&row));
    let long = "word ".repeat(3000);
    let reply = server.post("/embral/v1/embed", &json!({ "input": ["a", long] })).json(200);
    assert_eq!((&reply["data"][0]["truncated"], &reply["data"][1]["truncated"]), (&json!(false), &json!(true)));
    let error = server.post("/embral/v1/embed", &json!({ "input": ["a", long], "truncate": "none" })).json(422);
    assert_eq!((&error["error"]["kind"], &error["error"]["index"]), (&json!("too_long"), &json!(1)));
    for (bad, status) in [
        (json!({ "input": "a", "prompt": "x", "input_type": "query" }), 400),
        (json!({ "input": "a", "input_type": "nothing of the kind" }), 400),
        (json!({ "input": "a", "priority": "now" }), 400),
        (json!({ "input": "a", "timeout_ms": 0 }), 400),
        (json!({ "input": "a", "outputs": ["sparse"] }), 501),
        (json!({ "input": "a", "aggregate": "mean" }), 400),
        (json!({ "input": [] }), 400),
    ] {
        server.post("/embral/v1/embed", &bad).json(status);
    }
}

#[test]
fn chunks_and_their_aggregate_are_those_of_the_library() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let text = "Cats sleep most of the day. Dogs like walks. Interest rates rose again. ".repeat(6);
    for late in [false, true] {
        let chunking = Chunking { size: Some(12), overlap: 3, late, ..Chunking::default() };
        let body = json!({ "input": [text, "short"], "aggregate": "weighted",
                           "chunking": { "by": "tokens", "size": 12, "overlap": 3, "late": late } });
        let reply = server.post("/embral/v1/embed", &body).json(200);
        let texts = [text.as_str(), "short"];
        let chunks: Vec<_> =
            embedder.embed_chunks(texts, &chunking, Prompt::Default).unwrap().map(Result::unwrap).collect();
        let documents = embedder.embed_documents(&texts, &chunking, Aggregate::Weighted, Prompt::Default).unwrap();
        let found: Vec<&Value> =
            reply["data"].as_array().unwrap().iter().flat_map(|d| d["chunks"].as_array().unwrap()).collect();
        assert_eq!(found.len(), chunks.len());
        for (found, chunk) in found.iter().zip(&chunks) {
            assert_eq!((&found["start"], &found["end"]), (&json!(chunk.bytes.start), &json!(chunk.bytes.end)));
            assert_eq!(bits_of(&found["embedding"]), bits(&chunk.vector), "late {late}");
        }
        for i in 0..2 {
            assert_eq!(bits_of(&reply["data"][i]["embedding"]), bits(documents.row(i)), "late {late}");
        }
    }
    let bad = json!({ "input": "a", "chunking": { "by": "pages" } });
    assert!(
        server.post("/embral/v1/embed", &bad).json(400)["error"]["message"].as_str().unwrap().contains("sentences")
    );
}

#[test]
fn several_outputs_of_one_pass() {
    let golden = TaskGolden::load("tiny_joint");
    let server = start(Settings { models: vec![task(&golden, "joint")], ..settings() });
    let all = Joint { dense: true, sparse: true, multi_vector: true };
    let texts = ["a cat sat on the mat", "rates"];
    let alone = JointEmbedder::with_config(of_task(&golden), all).unwrap().embed_batch(&texts).unwrap();
    let body = json!({ "input": texts, "outputs": ["dense", "sparse", "multi_vector"], "model": "joint" });
    let reply = server.post("/embral/v1/embed", &body).json(200);
    for i in 0..texts.len() {
        let data = &reply["data"][i];
        assert_eq!(bits_of(&data["embedding"]), bits(alone.dense.row(i)));
        assert_eq!(bits_of(&data["sparse"]["weights"]), bits(&alone.sparse[i].weights));
        let ids: Vec<u32> = serde_json::from_value(data["sparse"]["ids"].clone()).unwrap();
        assert_eq!(ids, alone.sparse[i].ids);
        let rows = data["multi_vector"].as_array().unwrap();
        let flat: Vec<u32> = rows.iter().flat_map(bits_of).collect();
        assert_eq!(flat, bits(alone.multi_vector[i].as_slice()));
    }
}

#[test]
fn scores_and_labels() {
    let (reranker, classifier) = (TaskGolden::load("tiny_reranker"), TaskGolden::load("tiny_classifier"));
    let models = vec![task(&reranker, "rerank"), task(&classifier, "classify")];
    let server = start(Settings { models, ..settings() });
    let documents = ["by photosynthesis", "with a fork", "interest rates"];
    let alone =
        Reranker::with_config(of_task(&reranker)).unwrap().rerank("how do plants eat", &documents, None).unwrap();
    let body = json!({ "query": "how do plants eat", "documents": documents, "return_documents": true, "top_n": 2 });
    let reply = server.post("/embral/v1/rerank", &body).json(200);
    let results = reply["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (found, ranked) in results.iter().zip(&alone) {
        assert_eq!(found["index"], ranked.index);
        assert_eq!((found["score"].as_f64().unwrap() as f32).to_bits(), ranked.score.to_bits());
        assert_eq!(found["document"], documents[ranked.index]);
    }
    let labels = Classifier::with_config(of_task(&classifier)).unwrap().classify("a cat").unwrap();
    let reply = server.post("/embral/v1/classify", &json!({ "model": "classify", "input": "a cat" })).json(200);
    for (i, label) in labels.iter().enumerate() {
        assert_eq!(reply["data"][0][i]["label"], label.label);
        assert_eq!((reply["data"][0][i]["score"].as_f64().unwrap() as f32).to_bits(), label.score.to_bits());
    }
    server.post("/embral/v1/classify", &json!({ "model": "classify", "input": [["a", "b"], "c"] })).json(200);
    for (path, body) in [
        ("/embral/v1/embed", json!({ "input": "a" })),
        ("/embral/v1/classify", json!({ "input": "a" })),
        ("/embral/v1/rerank", json!({ "model": "classify", "query": "a", "documents": ["b"] })),
    ] {
        let reply = server.post(path, &body).json(501);
        assert_eq!(reply["error"]["kind"], "unsupported", "{path}: {reply}");
    }
}

#[test]
fn similarity_and_tokens() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    let embedder = Embedder::with_config(golden_config("tiny_bert")).unwrap();
    let texts = ["a cat", "a kitten", "a loan"];
    let rows = embedder.embed_batch(&texts).unwrap();
    let reply = server.post("/embral/v1/similarity", &json!({ "a": texts })).json(200);
    let found: Vec<u32> = reply["similarity"].as_array().unwrap().iter().flat_map(bits_of).collect();
    assert_eq!(found, bits(&embral::similarity(&rows, &rows)));
    let reply = server.post("/embral/v1/similarity", &json!({ "a": [texts[0]], "b": texts })).json(200);
    assert_eq!(bits_of(&reply["similarity"][0]), found[..3]);
    server.post("/embral/v1/similarity", &json!({ "a": [], "b": texts })).json(400);
    let reply = server.post("/embral/v1/tokenize", &json!({ "input": texts })).json(200);
    let ids: Vec<u64> = reply["data"][0].as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect();
    let wanted: Vec<u64> = embedder.tokenize(texts[0]).unwrap().into_iter().map(u64::from).collect();
    assert_eq!(ids, wanted);
    assert_eq!(reply["data"][0][0]["start"], Value::Null);
}

#[test]
fn status_and_models_say_what_is_there() {
    let server = start(Settings { models: vec![golden("tiny_bert")], ..settings() });
    server.post("/embral/v1/embed", &json!({ "input": ["a", "b"] })).json(200);
    let status = server.get("/embral/v1/status").json(200);
    assert_eq!(status["models"][0]["name"], "tiny_bert");
    // The probe of the start, and these two.
    assert_eq!(status["models"][0]["totals"]["sequences"], 3);
    assert!(status["memory"]["rss_bytes"].as_u64().unwrap() > 1 << 20);
    let models = server.get("/embral/v1/models").json(200);
    assert_eq!((&models["models"][0]["loaded"], &models["models"][0]["task"]), (&json!(true), &json!("embedding")));
}
