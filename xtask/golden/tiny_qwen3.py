"""Qwen3 of 2 layers, 32 components, 4 query heads over 2 key heads of 16 components, in the form of Qwen3-Embedding."""

from pathlib import Path

from folders import reference, save_weights, seeded_state, write_json
from tiny_bert import modules, old_pooling, over
from tiny_tokenizers import byte_level
from transformers import Qwen3Config, Qwen3Model


def make(root: Path):
    tokenizer, end = byte_level()
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 48,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 2500,
        "rope_scaling": None,
        "attention_bias": False,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "vocab_size": tokenizer.get_vocab_size(),
    }
    folder = root / "tiny_qwen3"
    write_json(folder / "config.json", config)
    write_json(folder / "modules.json", modules("Transformer", "Pooling", "Normalize"))
    write_json(folder / "1_Pooling" / "config.json", {**old_pooling("lasttoken"), "include_prompt": True})
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": "Instruct: Find the passage\nQuery:", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": end,
            "pad_token": end,
            "padding_side": "left",
            "model_max_length": 96,
        },
    )
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    model = Qwen3Model(Qwen3Config(**config))
    save_weights(folder / "model.safetensors", seeded_state(model, 20_262))
    write_json(folder / "golden.json", reference(folder))
    # The second block sees a window, and the rotary positions are stretched.
    stretched = {
        **config,
        "use_sliding_window": True,
        "sliding_window": 6,
        "max_window_layers": 1,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    }
    over(root, folder, "tiny_qwen3_windows", {"config.json": stretched})
