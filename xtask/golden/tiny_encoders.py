"""Encoders of 2 to 4 layers and 32 components, one a family, each with a tokeniser of the kind that its models have."""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from folders import halves, reference, save_weights, seeded_state, write_json
from safetensors.numpy import load_file
from texts import TEXTS
from tiny_bert import modules, old_pooling, over
from tiny_tokenizers import byte_level, byte_level_between, byte_fallback, unigram, word_piece
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    GteConfig,
    GteModel,
    LlamaConfig,
    LlamaModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    NomicBertConfig,
    NomicBertModel,
    Qwen2Config,
    Qwen2Model,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

ANGLE = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
SQUARE = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def roles(special):
    """What each special token is for, in the words of tokenizer_config.json."""
    known = {
        "pad": ["[PAD]", "<pad>"],
        "unk": ["[UNK]", "<unk>"],
        "cls": ["[CLS]", "<s>"],
        "sep": ["[SEP]", "</s>"],
        "mask": ["[MASK]", "<mask>"],
    }
    return {f"{role}_token": token for role, names in known.items() for token in names if token in special}


def folder_of(root: Path, name, config, tokenizer, pooling, special, extra=()):
    """Everything but the weights."""
    folder = root / name
    write_json(folder / "config.json", config)
    write_json(folder / "modules.json", modules("Transformer", "Pooling", *extra, "Normalize"))
    write_json(folder / "1_Pooling" / "config.json", {**old_pooling(pooling), "include_prompt": True})
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **special},
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    return folder


def finish(folder, model, seed, attention=None, change=lambda state: state, texts=TEXTS):
    save_weights(folder / "model.safetensors", change(halves(seeded_state(model, seed))))
    write_json(folder / "golden.json", reference(folder, texts, attention=attention))


# The padding token in a text is at no place, in families whose positions start behind it.
PADDED = [*TEXTS, "a <pad> cat sat <pad><pad> on the mat"]


BERT_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
}


def roberta(root):
    tokenizer = byte_level_between(ANGLE, "<s>", "</s>", roberta=True)
    config = {
        "architectures": ["RobertaModel"],
        "model_type": "roberta",
        **BERT_SIZES,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 66,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    folder = folder_of(root, "tiny_roberta", config, tokenizer, "mean", roles(ANGLE))
    finish(folder, RobertaModel(RobertaConfig(**config), add_pooling_layer=False), 20_263, texts=PADDED)
    # The same tokeniser in the two files of the first models.
    part = root / "tiny_roberta_merges"
    part.mkdir()
    model = json.loads(tokenizer.to_str())["model"]
    write_json(part / "vocab.json", model["vocab"])
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    (part / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    write_json(part / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", "model_max_length": 64, **roles(ANGLE)})
    whole = root / "whole" / part.name
    shutil.copytree(folder, whole)
    for name in ("golden.json", "tokenizer.json"):
        (whole / name).unlink()
    for file in part.iterdir():
        shutil.copy(file, whole)
    golden = {"over": folder.name, "without": ["tokenizer.json"], **reference(whole)}
    write_json(part / "golden.json", golden)
    shutil.rmtree(root / "whole")


def xlm_roberta(root):
    """XLM-RoBERTa with the first row pooled, as BGE-M3; and CamemBERT, which is the same under another name."""
    tokenizer = unigram(ANGLE)
    config = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        **BERT_SIZES,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 66,
        "type_vocab_size": 1,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    folder = folder_of(root, "tiny_xlm_roberta", config, tokenizer, "cls", roles(ANGLE))
    finish(folder, XLMRobertaModel(XLMRobertaConfig(**config), add_pooling_layer=False), 20_264, texts=PADDED)
    camembert = {
        "config.json": {**config, "architectures": ["CamembertModel"], "model_type": "camembert"},
        "1_Pooling/config.json": old_pooling("mean"),
    }
    over(root, folder, "tiny_camembert", camembert)


def distilbert(root):
    tokenizer, pieces = word_piece()
    config = {
        "architectures": ["DistilBertModel"],
        "model_type": "distilbert",
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "activation": "gelu",
        "sinusoidal_pos_embds": False,
        "vocab_size": len(pieces),
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    folder = folder_of(root, "tiny_distilbert", config, tokenizer, "mean", roles(SQUARE))
    finish(folder, DistilBertModel(DistilBertConfig(**config)), 20_265)


def mpnet(root):
    special = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
    tokenizer, pieces = word_piece(special, "[UNK]", "<s>", "</s>")
    config = {
        "architectures": ["MPNetModel"],
        "model_type": "mpnet",
        **BERT_SIZES,
        "vocab_size": len(pieces),
        "max_position_embeddings": 66,
        "relative_attention_num_buckets": 32,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    }
    folder = folder_of(root, "tiny_mpnet", config, tokenizer, "mean", roles(special))
    finish(folder, MPNetModel(MPNetConfig(**config), add_pooling_layer=False), 20_268, texts=PADDED)


def deberta(root):
    """DeBERTa v3, whose projections are used for distances too, in buckets; and v2 with projections of their own for each distance."""
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
    tokenizer = unigram(special, "[UNK]", "[CLS]", "[SEP]")
    config = {
        "architectures": ["DebertaV2Model"],
        "model_type": "deberta-v2",
        **BERT_SIZES,
        "layer_norm_eps": 1e-7,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 64,
        "max_relative_positions": -1,
        "position_buckets": 8,
        "relative_attention": True,
        "pos_att_type": "p2c|c2p",
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
        "type_vocab_size": 0,
        "pad_token_id": 0,
    }
    folder = folder_of(root, "tiny_deberta_v3", config, tokenizer, "mean", roles(special))
    finish(folder, DebertaV2Model(DebertaV2Config(**config)), 20_276)
    own = {
        **config,
        "position_buckets": -1,
        "max_relative_positions": 12,
        "pos_att_type": ["c2p", "p2c"],
        "norm_rel_ebd": "none",
        "share_att_key": False,
        "position_biased_input": True,
        "type_vocab_size": 2,
    }
    folder = folder_of(root, "tiny_deberta_v2", own, tokenizer, "cls", roles(special))
    finish(folder, DebertaV2Model(DebertaV2Config(**own)), 20_277)


def modernbert(root):
    tokenizer = byte_level_between(SQUARE, "[CLS]", "[SEP]", roberta=False)
    config = {
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "hidden_activation": "gelu",
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 4000.0,
        "local_rope_theta": 100.0,
        "local_attention": 8,
        "max_position_embeddings": 64,
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": 0,
    }
    folder = folder_of(root, "tiny_modernbert", config, tokenizer, "cls", roles(SQUARE))
    finish(folder, ModernBertModel(ModernBertConfig(**config)), 20_269)


def published(folder, seed, model, config, attention=None, change=lambda network: None):
    """A model whose published form has its own keys and names: transformers reads those names, but wants `config`."""
    whole = folder.parent / "whole" / folder.name
    shutil.copytree(folder, whole)
    write_json(whole / "config.json", config)
    state = {name: torch.from_numpy(array) for name, array in halves(seeded_state(model, seed)).items()}
    model.load_state_dict(state, strict=False)
    model.save_pretrained(str(whole), save_original_format=True)
    write_json(whole / "config.json", config)
    save_weights(folder / "model.safetensors", halves(load_file(whole / "model.safetensors")))
    shutil.copy(folder / "model.safetensors", whole / "model.safetensors")
    write_json(folder / "golden.json", reference(whole, attention=attention, change=change))
    shutil.rmtree(folder.parent / "whole")


def nomic_bert(root):
    tokenizer, pieces = word_piece()
    config = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "activation_function": "swiglu",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": 48,
        "n_positions": 64,
        "max_trained_positions": 64,
        "layer_norm_epsilon": 1e-12,
        "type_vocab_size": 2,
        "vocab_size": len(pieces),
        "qkv_proj_bias": False,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "prenorm": False,
        "parallel_block": False,
        "use_rms_norm": False,
        "causal": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": None,
    }
    folder = folder_of(root, "tiny_nomic_bert", config, tokenizer, "mean", roles(SQUARE))
    known = {
        "architectures": ["NomicBertModel"],
        "model_type": "nomic_bert",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "hidden_act": "silu",
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "vocab_size": len(pieces),
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    }
    published(folder, 20_270, NomicBertModel(NomicBertConfig(**known)), known)


def gte(root):
    """GTE 1.5 with the fixed NTK scaling, which transformers does not have: its frequencies are put into the network."""
    tokenizer = unigram(ANGLE)
    factor, theta = 2.0, 500.0
    config = {
        "architectures": ["NewModel"],
        "model_type": "new",
        **BERT_SIZES,
        "layer_norm_type": "layer_norm",
        "vocab_size": tokenizer.get_vocab_size(),
        "type_vocab_size": 1,
        "max_position_embeddings": 64,
        "position_embedding_type": "rope",
        "rope_theta": theta,
        "rope_scaling": {"type": "ntk", "factor": factor},
        "pack_qkv": True,
        "logn_attention_scale": False,
        "logn_attention_clip1": False,
        "unpad_inputs": False,
        "pad_token_id": 1,
    }
    folder = folder_of(root, "tiny_gte", config, tokenizer, "cls", roles(ANGLE))
    known = {
        "architectures": ["GteModel"],
        "model_type": "gte",
        **BERT_SIZES,
        "vocab_size": tokenizer.get_vocab_size(),
        "type_vocab_size": 1,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": theta},
    }

    def scale(network):
        pairs = torch.arange(0, 8, 2, dtype=torch.float32) / 8
        network.rotary_emb.inv_freq.copy_(1.0 / ((theta * factor) ** pairs) / factor ** (2 / 8))

    published(folder, 20_271, GteModel(GteConfig(**known)), known, change=scale)


def gemma3(root):
    """EmbeddingGemma: sees both ways, has two Dense layers behind the pooling, and prompts."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>")
    tokenizer = byte_fallback(special, "<bos> $A <eos>", prepend=False)
    config = {
        "architectures": ["Gemma3TextModel"],
        "model_type": "gemma3_text",
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 48,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 24,
        "sliding_window": 8,
        "_sliding_window_pattern": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "rope_theta": 4000.0,
        "rope_local_base_freq": 100.0,
        "rope_scaling": None,
        "use_bidirectional_attention": True,
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "vocab_size": tokenizer.get_vocab_size(),
    }
    tokens = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    folder = folder_of(root, "tiny_gemma3", config, tokenizer, "mean", tokens, extra=("Dense", "Dense"))
    rng = np.random.Generator(np.random.PCG64(8))
    for index, (inputs, outputs) in [(2, (32, 48)), (3, (48, 24))]:
        dense = {
            "in_features": inputs,
            "out_features": outputs,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        write_json(folder / f"{index}_Dense" / "config.json", dense)
        weight = (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float16)
        save_weights(folder / f"{index}_Dense" / "model.safetensors", {"linear.weight": weight})
    prompts = {"query": "task: search result | query: ", "document": "title: none | text: "}
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )

    def less_one(state):
        """The weights of its norms are stored without the 1 that they are around."""
        return {n: (a - 1 if "norm" in n else a) for n, a in state.items()}

    finish(folder, Gemma3TextModel(Gemma3TextConfig(**config)), 20_272, change=less_one)


DECODER_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 128,
}


def qwen2(root):
    """Qwen2 that sees both ways, as gte-Qwen2; and as the decoder it was."""
    tokenizer, end = byte_level()
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        **DECODER_SIZES,
        "is_causal": False,
        "rope_theta": 2500.0,
        "use_sliding_window": False,
        "sliding_window": 128,
        "max_window_layers": 1,
        "tie_word_embeddings": False,
        "vocab_size": tokenizer.get_vocab_size(),
    }
    special = {"eos_token": end, "pad_token": end, "padding_side": "left"}
    folder = folder_of(root, "tiny_qwen2", config, tokenizer, "lasttoken", special)
    # Only this form of attention asks the configuration, and not the class, which way a token sees.
    finish(folder, Qwen2Model(Qwen2Config(**config)), 20_266, attention="eager")
    over(root, folder, "tiny_qwen2_causal", {"config.json": {**config, "is_causal": True}})


def llama(root):
    """Llama with the rotary scaling of Llama 3; Mistral with a window, its tensors being the same; EuroBERT, which sees both ways."""
    special = ("<unk>", "<s>", "</s>")
    tokenizer = byte_fallback(special, "<s> $A </s>", prepend=True)
    config = {
        "architectures": ["LlamaModel"],
        "model_type": "llama",
        **DECODER_SIZES,
        "head_dim": 16,
        "rope_theta": 2500.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        "vocab_size": tokenizer.get_vocab_size(),
    }
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    folder = folder_of(root, "tiny_llama", config, tokenizer, "lasttoken", tokens)
    finish(folder, LlamaModel(LlamaConfig(**config)), 20_267)
    plain = {key: value for key, value in config.items() if key != "rope_scaling"}
    mistral = {**plain, "architectures": ["MistralModel"], "model_type": "mistral", "sliding_window": 6}
    over(root, folder, "tiny_mistral", {"config.json": mistral})
    eurobert = {
        **plain,
        "architectures": ["EuroBertModel"],
        "model_type": "eurobert",
        "pad_token_id": 2,
        "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 2500.0},
    }
    over(root, folder, "tiny_eurobert", {"config.json": eurobert, "1_Pooling/config.json": old_pooling("mean")})


def make(root: Path):
    for family in (roberta, xlm_roberta, distilbert, mpnet, deberta, modernbert, nomic_bert, gte, gemma3, qwen2, llama):
        family(root)
