// All sources at once: a small picture and the figures of each; a click leads to its own page.
import { Pictures } from './picture.js';

const $ = (id) => document.getElementById(id);
const tiles = new Map();  // name -> { item, pictures, about }
const SECONDS = 1000;

async function ask(path, method = 'GET', about) {
  try {
    const answer = await fetch(path, {
      method,
      headers: about ? { 'content-type': 'application/json' } : {},
      body: about && JSON.stringify(about),
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error || `the program answered ${answer.status}`);
    update(said);
    return true;
  } catch (error) {
    tell(error instanceof TypeError ? 'The program does not answer. Is it still running?' : error.message);
    return false;
  }
}

function tell(text) {
  const line = document.createElement('p');
  line.className = 'message problem';
  line.textContent = text;
  $('messages').replaceChildren(line);
  setTimeout(() => line.remove(), 6000);
}

function update({ engine, sources }) {
  $('engine').textContent = engine ? `engine: ${engine}` : '';
  $('none').hidden = sources.length > 0;
  const names = new Set(sources.map((one) => one.name));
  for (const [name, tile] of tiles) {
    if (names.has(name)) continue;
    tile.pictures.end();
    tile.item.remove();
    tiles.delete(name);
  }
  for (const one of sources) {
    if (!tiles.has(one.name)) tiles.set(one.name, made(one.name));
    const { pill, about } = tiles.get(one.name);
    pill.dataset.state = one.state === 'failed' ? 'lost' : one.state;
    const people = one.people === 1 ? '1 person' : `${one.people} people`;
    const going = `${one.frames_per_second} pictures/s, ${Math.round(one.latency_ms)} ms, ${people}`;
    about.textContent = one.state === 'playing' ? going : `${one.state}${one.problem ? `: ${one.problem}` : ''}`;
  }
}

function made(name) {
  const item = document.createElement('li');
  item.id = `source-${name}`;
  const link = document.createElement('a');
  link.href = `sources/${name}/`;
  const canvas = document.createElement('canvas');
  canvas.width = 320;
  canvas.height = 180;
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `The picture of ${name}`);
  link.append(canvas);
  const pill = document.createElement('p');
  pill.className = 'pill';
  const dot = document.createElement('span');
  dot.className = 'dot';
  const title = document.createElement('span');
  title.textContent = name;
  pill.append(dot, title);
  const about = document.createElement('p');
  about.className = 'note';
  const away = document.createElement('button');
  away.className = 'quiet';
  away.textContent = 'Remove';
  away.setAttribute('aria-label', `Remove ${name}`);
  away.onclick = () => { if (confirm(`End ${name}? Its recording is finished first.`)) ask(`api/sources/${name}`, 'DELETE'); };
  const row = document.createElement('div');
  row.className = 'row';
  row.append(pill, away);
  item.append(link, row, about);
  $('sources').append(item);
  const pictures = new Pictures(canvas, { view: 'result', rows: 240, base: `sources/${name}/` });
  return { item, pictures, pill, about };
}

$('add').onsubmit = async (event) => {
  event.preventDefault();
  if (await ask('api/sources', 'POST', { name: $('name').value, source: $('uri').value })) $('add').reset();
};

async function watch() {
  await ask('api/sources');
  setTimeout(watch, SECONDS);
}
watch();
