/* The rater's side of a study. The server decides what comes next and keeps all answers; this page shows, asks and sends.

   The time of an answer is measured here, from the first frame that shows the shape (`performance.now`); the server bounds it
   by the time between its own answers. The next shape is shown only after the answer before is acknowledged as stored. */
"use strict";

const KEYS = ["F", "J"];
const REFLEX = 150;  // milliseconds after a shape appears in which a key is still an answer to the one before: ignored
const LABELS = { real: "Real", generated: "Generated", A: "Shape A", B: "Shape B" };
const TEXT = {
  "yes-no": {
    title: "Real or generated?",
    task: "Some of these shapes are real: people designed them. Others were made up by a computer program. Say of each which it is.",
    question: "Real or generated?", each: "shapes",
  },
  "2afc": {
    title: "Which looks more real?",
    task: "You will see two shapes at a time. Some were designed by people, some were made up by computer programs. Say which of the two looks more real.",
    question: "Which looks more real?", each: "pairs of shapes",
  },
};
const find = (id) => document.getElementById(id);
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
const study = { viewers: [], shapes: new Map(), busy: true, since: null };

function say(text) {
  find("message").textContent = text;
  find("message").hidden = !text;
}

/* Ask the server until it answers; what it refuses for good is thrown. */
async function ask(path, body) {
  for (let wait = 0.5; ; wait = Math.min(8, 2 * wait)) {
    let reply = null;
    try {
      const headers = { "X-Access-Key": location.hash.slice(1) };
      if (body) Object.assign(headers, { "X-CSRF-Token": study.csrf, "Content-Type": "application/json" });
      reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
      if (reply.ok) {
        const value = reply.headers.get("Content-Type").includes("json") ? await reply.json() : new Uint8Array(await reply.arrayBuffer());
        if (study.late) say("");
        study.late = false;
        return value;
      }
    } catch (fault) {
      reply = null;  // no connection, or it broke off
    }
    if (reply && reply.status < 500 && reply.status !== 429) {
      const refusal = new Error((await reply.json().catch(() => ({}))).error || "The server refused this.");
      refusal.status = reply.status;
      throw refusal;
    }
    if (!reply || reply.status !== 429) {
      study.late = true;
      say(body ? "Not stored yet. Trying again …" : "No connection. Trying again …");
    }
    await pause(reply && Number(reply.headers.get("Retry-After")) || wait);
  }
}

function shape(trial, place) {
  const path = `shape/${trial}/${place}`;
  if (!study.shapes.has(path)) {
    const load = ask(path);
    load.catch(() => study.shapes.delete(path));
    study.shapes.set(path, load);
  }
  return study.shapes.get(path);
}

function canvas(parent, label) {
  const frame = document.createElement("div"), drawn = document.createElement("canvas");
  frame.className = "frame";
  drawn.setAttribute("aria-label", `${label}. ${VoxelViewer.HELP}`);
  frame.append(drawn);
  parent.append(frame);
  return drawn;
}

function visible(phase) {
  for (const id of ["welcome", "trial", "done"]) find(id).hidden = id !== phase;
}

async function welcome(state) {
  const text = TEXT[state.design];
  find("title").textContent = text.title;
  find("task").textContent = `${text.task} They are of the kind: ${state.category}.`;
  find("total").textContent = `${state.total} ${text.each}`;
  find("consent-text").textContent = state.consent;
  visible("welcome");
  let twin = null;
  for (let i = 0; i < state.examples; i++) {
    const viewer = new VoxelViewer(canvas(find("examples"), `Example ${i + 1}, a real shape`), { color: state.color, zoom: state.zoom, twin });
    if (!viewer.works) {
      find("form").hidden = true;
      return;
    }
    twin = twin || viewer;
    viewer.show(await ask(`example/${i}`), state.resolution);
  }
}

async function begin(event) {
  event.preventDefault();
  find("start").disabled = true;
  try {
    await resume(await ask("begin", { consent: find("consent").checked, name: find("name").value }));
    find("examples").replaceChildren();
  } catch (refusal) {
    say(refusal.message);
    find("start").disabled = false;
  }
}

function prepare(state) {
  const places = state.design === "2afc" ? ["Shape A", "Shape B"] : ["The shape"];
  find("category").textContent = state.category;
  find("question").textContent = TEXT[state.design].question;
  find("stage").classList.toggle("two", places.length > 1);
  for (const [i, place] of places.entries()) {
    const drawn = canvas(find("stage"), place);
    if (places.length > 1) drawn.parentElement.dataset.place = "AB"[i];
    study.viewers.push(new VoxelViewer(drawn, { color: state.color, zoom: state.zoom, twin: study.viewers[0] || null }));
  }
  for (const [i, choice] of state.choices.entries()) {
    const button = document.createElement("button"), key = document.createElement("kbd");
    key.textContent = KEYS[i];
    button.append(LABELS[choice], key);
    button.dataset.answer = choice;
    button.setAttribute("aria-keyshortcuts", KEYS[i]);
    button.addEventListener("click", () => answer(choice));
    find("buttons").append(button);
  }
}

async function next(state) {
  find("progress").textContent = `${state.trial + 1} of ${study.total}`;
  find("bar").setAttribute("aria-valuemax", study.total);
  find("bar").setAttribute("aria-valuenow", state.trial);
  find("done-share").style.width = `${100 * state.trial / study.total}%`;
  const voxels = await Promise.all(study.viewers.map((_, place) => shape(state.trial, place)));
  study.viewers[0].reset();
  voxels.forEach((packed, place) => study.viewers[place].show(packed, study.resolution));
  study.trial = state.trial;
  study.shapes.clear();
  // the viewers draw in the next frame, which is on the screen when the one after it begins
  requestAnimationFrame(() => requestAnimationFrame((now) => {
    study.since = now;
    setTimeout(() => {
      study.busy = false;
      document.body.dataset.trial = state.trial;
      for (const button of find("buttons").children) button.disabled = false;
    }, REFLEX);
    if (state.trial + 1 < study.total) study.viewers.forEach((_, place) => shape(state.trial + 1, place));
  }));
}

async function answer(choice) {
  if (study.busy) return;
  study.busy = true;
  const seconds = Math.max(0, (performance.now() - study.since) / 1000);
  for (const button of find("buttons").children) {
    button.disabled = true;
    button.classList.toggle("chosen", button.dataset.answer === choice);
  }
  try {
    const state = await ask("answer", { trial: study.trial, answer: choice, seconds });
    if (state.trial >= study.total) visible("done");
    else await next(state);
  } catch (refusal) {
    if (refusal.status === 409) location.reload();  // another tab was faster: go on from where the server is
    else say(refusal.message);
  }
  for (const button of find("buttons").children) button.classList.remove("chosen");
}

async function resume(state) {
  Object.assign(study, { csrf: state.csrf, total: state.total, resolution: state.resolution });
  if (state.phase === "welcome") return welcome(state);
  visible(state.phase);
  if (state.phase !== "trial") return undefined;
  prepare(state);
  return study.viewers.every((viewer) => viewer.works) ? next(state) : find("buttons").replaceChildren();
}

document.addEventListener("keydown", (event) => {
  if (find("trial").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  const button = find("buttons").children[KEYS.findIndex((key) => event.code === `Key${key}`)];  // its place, whatever the layout
  if (button && !event.repeat) button.click();
  else if (!button && study.viewers.length) study.viewers[0].key(event);
});
find("form").addEventListener("submit", begin);
ask("state").then(resume).catch((refusal) => say(refusal.message));
