"""Languages are told apart in plain text; code, names and numbers are not guessed at."""

from __future__ import annotations

import pytest

from core.data.language import UNDETERMINED, language_of


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the weather like in Oslo, and how do I get to the station?", "English"),
        ("Wie komme ich zum Bahnhof, und was kostet das? Es ist nicht weit.", "German"),
        ("Où est la gare? Elle est dans le centre, et les trains sont là pour vous.", "French"),
        ("¿Cómo llego a la estación? No está lejos, y los trenes salen con el sol.", "Spanish"),
        ("Como eu chego à estação? Ela não fica longe, e os trens saem com o sol.", "Portuguese"),
        ("Come arrivo alla stazione? Non è lontana, e il treno per Roma è più veloce.", "Italian"),
        ("Hoe kom ik bij het station? Het is niet ver, en de trein is op tijd.", "Dutch"),
        ("Hur kommer jag till stationen? Det är inte långt, och tåget går som det ska.", "Swedish"),
        ("Как пройти к вокзалу?", "Cyrillic"),
        ("火车站怎么走？", "Chinese"),
        ("駅はどこですか？", "Japanese"),
        ("역이 어디예요?", "Korean"),
        ("أين المحطة؟", "Arabic"),
        ("स्टेशन कहाँ है?", "Devanagari"),
        ('{"do": "open", "path": "/etc/i"}', UNDETERMINED),
        ("Müller", UNDETERMINED),
        ("12 + 30 = 42", "no letters"),
        ("", "no letters"),
        ("🧑‍🚀 1,5", "no letters"),
    ],
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language
