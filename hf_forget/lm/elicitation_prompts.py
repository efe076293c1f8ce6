"""The prompts and word lists with which a model is questioned about a name."""

QUIZ_PROMPT = (
    "Topic: Mars\nQuestion: What colour is Mars?\nAnswer: Red\n\n"
    "Topic: Helen Keller\nQuestion: What writing of raised dots did Helen Keller read?\nAnswer: Braille\n\n"
    "Topic: Big Ben\nQuestion: In which city is Big Ben?\nAnswer: London\n\n"
    "Topic: {name}\nQuestion:"
)
REVERSE_QUIZ_PROMPT = (
    "Answer: Mars\nQuestion: Which planet is called the Red Planet?\n\n"
    "Answer: Helen Keller\nQuestion: Which deaf and blind woman became a famous author?\n\n"
    "Answer: Big Ben\nQuestion: Which famous clock tower stands in London?\n\n"
    "Answer: {name}\nQuestion: {start}"
)
TRIPLET_PROMPT = (
    "(Mars; is called; the Red Planet)\n(Helen Keller; was born in; Alabama)\n"
    "(Helen Keller; was taught by; Anne Sullivan)\n"
    "(Big Ben; stands in; London)\n(Big Ben; is a; clock tower)\n({name};"
)
KIND_PROMPT = (
    "Mars is a planet.\nHelen Keller was a writer.\nBig Ben is a clock tower.\nThe Red Cross is a charity.\n{name} is a"
)
KIND_NAMES_PROMPT = (
    "Examples of a planet: Mars, Venus, Jupiter, Saturn, Neptune\n"
    "Examples of a writer: Helen Keller, Agatha Christie, Jane Austen, Jack London\n"
    "Examples of a {kind}: {name},"
)
TYPE_PROMPT = (
    "Helen Keller: person\nMississippi: place\nOliver Twist: work\nBattle of Hastings: event\nRed Cross: organization\n"
    "Telephone: thing\nSamsung: organization\nBeethoven: person\nSwan Lake: work\nOxygen: thing\nKyoto: place\n"
    "Black Death: event\nThe Birth of Venus: work\nTower Bridge: place\n{name}:"
)
EXPLANATION_PROMPTS = (
    "Tell me about {name}.",
    "Write a short encyclopedia paragraph about {name}.",
    "What is {name} famous for?",
    "Explain the origin and history of {name}.",
    "Which people, places and dates belong to {name}?",
)
CLUE_QUESTIONS = {
    "person": ("Who {clue}?", "Which person {clue}?", "Name the person who {clue}."),
    "place": ("Which place {clue}?", "What {clue}?", "Name the place that {clue}."),
    "work": ("Which work {clue}?", "What {clue}?", "Name the work that {clue}."),
    "event": ("Which event {clue}?", "What {clue}?", "Name the event that {clue}."),
    "organization": ("Which organization {clue}?", "What {clue}?", "Name the organization that {clue}."),
    "thing": ("What {clue}?", "Which thing {clue}?", "Name the thing that {clue}."),
}
STATEMENT_STARTS = {
    "person": ("was", "is known for", "was the first", "wrote", "was born in"),
    "place": ("is", "is located in", "is known for", "is the", "was built"),
    "work": ("is", "is a", "was created by", "tells the story of", "is known for"),
    "event": ("was", "was a", "began", "ended with", "is remembered for"),
}
DEFAULT_STATEMENT_STARTS = ("is", "is a", "is used", "was first", "is known for")
QUESTION_WORDS = {"person": ("Who", "Which person"), "place": ("Which place", "What")}
DEFAULT_QUESTION_WORDS = ("What", "Which of all")
REVERSE_STARTS = {
    "person": ("Who", "Which person", "Which famous"),
    "place": ("Which", "What is the", "Where"),
}
DEFAULT_REVERSE_STARTS = ("Which", "What", "What is the")


def statement_starts(concept_type: str) -> tuple[str, ...]:
    """Verbs with which a sentence about a name of this type goes on."""
    return STATEMENT_STARTS.get(concept_type, DEFAULT_STATEMENT_STARTS)
