"""Tokenisers of a few hundred entries, spelled out rather than trained, so that they never change."""

import string

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WORDS = """
the a an of to in and is it on that for was with as he she they we you not this are be at have from or one had by
word but what some can out other were all there when up use your how said each which do their time if will way about
many then them write would like so these her long make thing see him two has look more day could go come did number
sound no most people my over know water than call first who may down side been now find cat dog mat sat red house ran
fox quick brown lazy jump
""".split()
SUFFIXES = "ing ed er est ly s es ion ness able ment ful less".split()


def word_piece(special=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), unknown="[UNK]", first="[CLS]", last="[SEP]"):
    """WordPiece with BERT's normaliser and pre-tokeniser; every letter, digit and mark is a piece."""
    letters = string.ascii_lowercase + string.digits
    pieces = [*special, *".,:;!?'\"()-/%@_", *letters]
    pieces += ["##" + c for c in letters]
    pieces += ["##" + s for s in SUFFIXES if len(s) > 1]
    pieces += [w for w in WORDS if len(w) > 1] + ["日"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    assert len(vocab) == len(pieces)
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(p, special=True) for p in pieces[:5]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B:1 {last}:1",
        special_tokens=[(first, vocab[first]), (last, vocab[last])],
    )
    return tokenizer, pieces


SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_pairs(vocab, words):
    """Adds to `vocab` what merging the words from left to right makes, and returns the merges."""
    merges = []
    for word in words:
        left = word[0]
        for right in word[1:]:
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append((left, right))
            left += right
    return merges


BYTE_WORDS = ["Ġ" + w for w in WORDS[:40]] + ["cat", "dog", "ing", "ed"]


def byte_level():
    """Byte-level BPE in the form of Qwen3: NFC, one digit a token, the end of text appended to every text."""
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = byte_pairs(vocab, BYTE_WORDS)
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    tokenizer.add_special_tokens([AddedToken(end, special=True, normalized=False)])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, tokenizer.token_to_id(end))]
            ),
        ]
    )
    return tokenizer, end


def byte_level_between(special, first, last, roberta):
    """Byte-level BPE that puts every text between two tokens: in the form of RoBERTa, or in that of ModernBERT."""
    vocab = {token: i for i, token in enumerate(special)}
    for c in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[c] = len(vocab)
    merges = byte_pairs(vocab, BYTE_WORDS)
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing(
            (last, vocab[last]), (first, vocab[first]), trim_offsets=True, add_prefix_space=False
        )
    else:
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}",
            pair=f"{first} $A {last} $B {last}",
            special_tokens=[(first, vocab[first]), (last, vocab[last])],
        )
    return tokenizer


def unigram(special=("<s>", "<pad>", "</s>", "<unk>", "<mask>"), unknown="<unk>", first="<s>", last="</s>"):
    """SentencePiece's unigram model as XLM-RoBERTa has it: spaces are pieces, longer pieces are likelier."""
    letters = string.ascii_letters + string.digits + ".,:;!?'\"()-/%@_éàïü日本"
    pieces = [(token, 0.0) for token in special]
    pieces += [("▁", -4.0)] + [(c, -6.0 - i / 64) for i, c in enumerate(letters)]
    words = [w for w in WORDS if len(w) > 1]
    pieces += [("▁" + w, -5.0 - i / 64) for i, w in enumerate(words)]
    pieces += [(s, -5.5 - i / 64) for i, s in enumerate(SUFFIXES) if len(s) > 1]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=special.index(unknown), byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(token, special.index(token)) for token in [first, last]],
    )
    return tokenizer


def byte_fallback(special, template, prepend):
    """SentencePiece's BPE as Llama and Gemma have it: a character without a piece becomes its bytes. Llama puts a space before the text."""
    vocab = {token: i for i, token in enumerate(special)}
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    for c in "▁" + string.ascii_letters + ".,:;!?'()-é":
        vocab[c] = len(vocab)
    merges = byte_pairs(vocab, ["▁" + w for w in WORDS[:40]] + ["cat", "dog", "ing", "ed"])
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Prepend("▁")] if prepend else []
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    used = [token for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=f"{template} {template.replace('$A', '$B')}", special_tokens=[(t, vocab[t]) for t in used]
    )
    return tokenizer
