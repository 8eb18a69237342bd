"""A desktop program: a folder of notes, searched by meaning as you type.

    python examples/desktop_notes.py [FOLDER]

Everything slow runs on one worker thread: reading the folder, then searches, of which only the newest question counts.
The window asks for answers forty times a second, and never waits. The index is one file, `.notes.db`, in the folder.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import tkinter as tk
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from tkinter import filedialog, ttk

from spladelite import Hit, SpladeLite, SpladeLiteError

MARK = ("\ue000", "\ue001")  # around the words that match; no note has these characters for private use
PAPER, INK, SOFT, ACCENT, MARKED = "#fbfaf7", "#1b2129", "#667080", "#0f5c73", "#ffe58f"


@dataclass(frozen=True)
class Found:
    """The answer to one question: each hit with its passage, words marked, and the terms that it was found by."""

    question: str
    hits: list[tuple[Hit, str, list[str]]]
    milliseconds: float


class Worker(threading.Thread):
    """Owns the database: indexes the folder, then answers the newest question."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.questions: queue.Queue[str | None] = queue.Queue()
        self.answers: queue.Queue[Found | str] = queue.Queue()

    def run(self) -> None:
        try:
            with SpladeLite(self.folder / ".notes.db") as db:
                self.answers.put("Reading the notes …")
                self.answers.put(f"{self.index(db):,} notes in {self.folder}")
                while (question := self.questions.get()) is not None:
                    while not self.questions.empty():
                        newer = self.questions.get()
                        if newer is None:
                            return
                        question = newer
                    self.answers.put(self.search(db, question))
        except (SpladeLiteError, OSError) as error:
            self.answers.put(str(error))

    def index(self, db: SpladeLite) -> int:
        """Make the database equal to the folder. A note that has not changed is not encoded again."""
        texts = {}
        for path in sorted([*self.folder.rglob("*.md"), *self.folder.rglob("*.txt")]):
            text = path.read_text("utf-8", errors="replace").replace("\0", "")
            if text.strip():
                texts[str(path.relative_to(self.folder))] = text
        db.delete([id for id in db if id not in texts])
        db.upsert(list(texts.values()), ids=list(texts), progress=False)
        return len(texts)

    def search(self, db: SpladeLite, question: str) -> Found:
        start = time.perf_counter()
        hits = db.search(question, k=20, mode="hybrid")
        took = 1000 * (time.perf_counter() - start)
        shown = []
        for hit in hits:
            terms = sorted(db.explain(question, hit.id).terms, key=lambda match: -match.contribution)
            shown.append((hit, db.highlight(hit, *MARK), [match.term for match in terms[:6]]))
        return Found(question, shown, took)


class Window:
    """A box to type in, and the notes that answer."""

    def __init__(self, root: tk.Tk, folder: Path) -> None:
        self.root, self.folder = root, folder
        root.title(f"Notes: {folder.name}")
        root.configure(background=PAPER)
        root.geometry("820x640")
        self.question = tk.StringVar(root)
        self.status = tk.StringVar(root)
        box = tk.Entry(
            root, textvariable=self.question, font=("TkDefaultFont", 16), relief="flat", background="white",
            foreground=INK, highlightthickness=2, highlightbackground="#dfdbd3", highlightcolor=ACCENT,
            insertbackground=INK,
        )  # fmt: skip
        box.pack(fill="x", padx=20, pady=(20, 6), ipady=8, ipadx=8)
        tk.Label(root, textvariable=self.status, background=PAPER, foreground=SOFT, anchor="w").pack(fill="x", padx=20)
        frame = tk.Frame(root, background=PAPER)
        frame.pack(fill="both", expand=True, padx=(20, 0), pady=(4, 12))
        style = ttk.Style(root)
        style.theme_use("clam")
        style.configure("TScrollbar", troughcolor=PAPER, background="#dfdbd3", bordercolor=PAPER, relief="flat")
        bar = ttk.Scrollbar(frame)
        bar.pack(side="right", fill="y")
        self.page = tk.Text(
            frame, wrap="word", relief="flat", background=PAPER, foreground=INK, cursor="arrow", highlightthickness=0,
            font=("TkDefaultFont", 11), spacing1=1, spacing3=2, state="disabled", yscrollcommand=bar.set,
        )  # fmt: skip
        self.page.pack(side="left", fill="both", expand=True)
        bar.configure(command=self.page.yview)
        self.page.tag_configure("title", font=("TkDefaultFont", 13, "bold"), foreground=ACCENT, spacing1=14)
        self.page.tag_configure("terms", font=("TkDefaultFont", 10), foreground=SOFT)
        self.page.tag_configure("marked", background=MARKED)
        self.question.trace_add("write", lambda *_: self.ask())
        box.bind("<Escape>", lambda _: self.question.set(""))
        box.focus_set()
        self.worker = Worker(folder)
        self.worker.start()
        root.protocol("WM_DELETE_WINDOW", self.close)
        self.poll()

    def ask(self) -> None:
        if self.question.get().strip():
            self.worker.questions.put(self.question.get())
        else:
            self.show([])

    def poll(self) -> None:
        while not self.worker.answers.empty():
            answer = self.worker.answers.get()
            if isinstance(answer, str):
                self.status.set(answer)
            elif answer.question == self.question.get():
                self.status.set(f"{len(answer.hits)} notes, {answer.milliseconds:.1f} ms")
                self.show(answer.hits)
        self.root.after(25, self.poll)

    def show(self, hits: list[tuple[Hit, str, list[str]]]) -> None:
        self.page.configure(state="normal")
        self.page.delete("1.0", "end")
        for number, (hit, passage, terms) in enumerate(hits):
            link = f"open{number}"
            self.page.insert("end", f"{Path(hit.id).stem}\n", ("title", link))
            self.page.tag_bind(link, "<Button-1>", lambda _, name=hit.id: self.open(name))  # type: ignore[misc]
            for piece in " ".join(passage.lstrip("# ").split()).split(MARK[0]):
                marked, closed, rest = piece.rpartition(MARK[1])
                self.page.insert("end", marked, ("marked",) if closed else ())
                self.page.insert("end", rest)
            self.page.insert("end", f"\n{hit.id} · found by {', '.join(terms)}\n", ("terms",))
        self.page.configure(state="disabled")

    def open(self, id: str) -> None:
        webbrowser.open((self.folder / id).as_uri())

    def close(self) -> None:
        self.worker.questions.put(None)
        self.worker.join(10)
        self.root.destroy()


def main() -> None:
    root = tk.Tk()
    root.withdraw()
    folder = sys.argv[1] if len(sys.argv) > 1 else filedialog.askdirectory(title="A folder with notes")
    if folder:
        root.deiconify()
        Window(root, Path(folder).resolve())
        root.mainloop()


if __name__ == "__main__":
    main()
