"""The texts of every golden: ordinary ones, and each shape that has ever broken an embedding engine."""

TEXTS = [
    "a cat sat on the mat",
    "The quick brown fox jumps over the lazy dog.",
    "",
    "   \t\n ",
    "Café déjà vu: naïve résumé!",
    "unseen wordforms splinter into pieces 2026",
    "猫 sat on 日本",
    "\U0001f600 emoji and \u2603 snow",
    "don't stop-believing (it's 50% off), e.g. a_b/c@d",
    "x",
    "STREET CATS and street dogs",
    "a dog ran to the red house " * 12,
]
