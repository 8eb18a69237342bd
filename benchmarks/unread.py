"""Hybrids in languages that the bundled model cannot read: python benchmarks/unread.py

255 sentences a language, each a person, an action, a thing and a place out of 8, 6, 8 and 8, so that many share words;
50 questions, each three of the four words of a sentence. What has all three is relevant. nDCG@10 of the parts, of the
hybrid with the model's part as it would be for English (its weight given), and of the hybrid as it is.
"""

from __future__ import annotations

import math
import random
import warnings

from spladelite import SpladeLite, UnreadText
from spladelite.search.fusion import default_weights

# The sentence, what stands between the words of a question, and the words.
LANGUAGES: dict[str, tuple[str, str, tuple[str, str, str, str]]] = {
    "Arabic": (
        "{0} {1} {2} في {3}",
        " ",
        (
            "المعلم الطبيبة الفلاح الشاعر المهندسة الخباز السائق الطالبة",
            "يبيع يشتري يحمل يرسم يصلح ينسى",
            "الخبز الخريطة الكتاب الحقيبة الساعة المصباح الكرسي الدراجة",
            "المدرسة السوق المستشفى المحطة الحديقة القرية المكتبة الجسر",
        ),
    ),
    "Greek": (
        "{0} {1} {2} {3}",
        " ",
        (
            "δάσκαλος γιατρός αγρότης ποιητής μηχανικός φούρναρης οδηγός μαθήτρια",
            "πουλάει αγόρασε κρατάει ζωγράφισε επισκευάζει ξέχασε",
            "ψωμί χάρτη βιβλίο τσάντα ρολόι λάμπα καρέκλα ποδήλατο",
            "σχολείο αγορά νοσοκομείο σταθμό κήπο χωριό βιβλιοθήκη γέφυρα",
        ),
    ),
    "Japanese": (
        "{0}は{3}で{2}を{1}",
        "",
        (
            "先生 医者 農家の人 詩人 技術者 パン屋 運転手 学生",
            "売っています 買いました 運んでいます 描きました 直しています 忘れました",
            "パン 地図 本 かばん 時計 電灯 椅子 自転車",
            "学校 市場 病院 駅 庭 村 図書館 橋",
        ),
    ),
    "Thai": (
        "{0}{1}{2}ที่{3}",
        "",
        (
            "ครู หมอ ชาวสวน กวี วิศวกร คนทำขนมปัง คนขับรถ นักเรียน",
            "ขาย ซื้อ ถือ วาด ซ่อม ลืม",
            "ขนมปัง แผนที่ หนังสือ กระเป๋า นาฬิกา โคมไฟ เก้าอี้ จักรยาน",
            "โรงเรียน ตลาด โรงพยาบาล สถานี สวน หมู่บ้าน ห้องสมุด สะพาน",
        ),
    ),
}


def measure(sentence: str, between: str, columns: tuple[str, ...]) -> tuple[int, list[float]]:
    """How many of the documents are marked, and the mean nDCG@10 of each way to search."""
    source = random.Random(1)
    chosen: set[tuple[str, ...]] = set()
    while len(chosen) < 255:
        chosen.add(tuple(source.choice(column.split()) for column in columns))
    documents = sorted(chosen)
    scores: list[list[float]] = []
    with SpladeLite(":memory:") as db:
        db.add([sentence.format(*words) for words in documents], ids=[str(i) for i in range(255)], progress=False)
        for document in documents[:250:5]:
            left_out = source.randrange(4)
            kept = [i for i in range(4) if i != left_out]
            query = between.join(document[i] for i in kept)
            relevant = {str(n) for n, words in enumerate(documents) if all(words[i] == document[i] for i in kept)}
            given = default_weights(("splade", "bm25"), 3)
            ways = [
                db.search(query, mode="splade"),
                db.search(query, mode="bm25"),
                db.search(query, weights=given),
                db.search(query),
            ]
            scores.append([ndcg([hit.id for hit in hits], relevant) for hits in ways])
        return db.stats().unread, [sum(column) / len(column) for column in zip(*scores, strict=True)]


def ndcg(ranking: list[str], relevant: set[str]) -> float:
    """nDCG@10."""
    gain = sum(1 / math.log2(rank + 2) for rank, id in enumerate(ranking) if id in relevant)
    return gain / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore", UnreadText)
    print("| language | marked | splade | bm25 | hybrid, weights given | hybrid |\n|---|---|---|---|---|---|")
    for name, arguments in LANGUAGES.items():
        marked, means = measure(*arguments)
        print(f"| {name} | {marked} of 255 | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
