"""Two tokenisers of a few hundred entries, spelled out rather than trained, so that they never change."""

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


def word_piece():
    """WordPiece with BERT's normaliser and pre-tokeniser; every letter, digit and mark is a piece."""
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,:;!?'\"()-/%@_", *letters]
    pieces += ["##" + c for c in letters]
    pieces += ["##" + s for s in SUFFIXES if len(s) > 1]
    pieces += [w for w in WORDS if len(w) > 1] + ["日"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    assert len(vocab) == len(pieces)
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens([AddedToken(p, special=True) for p in pieces[:5]])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer, pieces


SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level():
    """Byte-level BPE in the form of Qwen3: NFC, one digit a token, the end of text appended to every text."""
    vocab = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for word in ["Ġ" + w for w in WORDS[:40]] + ["cat", "dog", "ing", "ed"]:
        left = word[0]
        for right in word[1:]:
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append((left, right))
            left += right
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
