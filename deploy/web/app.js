/* The demo page: two panels, each one sign-in. Everything it knows it has from rostergate.js.
 * All text of users reaches the page by textContent and value only, never as markup. */
import { Rostergate } from '/rostergate.js';

const NO_GROUP = 'No group';
const LOG_LENGTH = 50;

const CONNECTIONS = {
  closed: 'not connected',
  connecting: 'connecting …',
  open: 'live',
  waiting: 'connection lost, trying again …',
};

const STATES = {
  connecting: 'XMPP server: signing in …',
  resuming: 'XMPP server away: list may be old',
  offline: 'XMPP session asleep',
};

const SUBSCRIPTIONS = {
  none: 'no presence', to: 'you see them', from: 'they see you', both: 'both see each other',
};

const REASONS = {
  'credentials': 'The XMPP server no longer accepts the password.',
  'credentials-rejected': 'The XMPP server no longer accepts the password.',
  'expired': 'The sign-in has expired.',
  'unauthorized': 'The sign-in is over.',
};

const byId = (id) => document.getElementById(id);
const copy = (id) => byId(id).content.firstElementChild.cloneNode(true);
const compare = new Intl.Collator(undefined, { sensitivity: 'base', numeric: true }).compare;

/* "A, B ,,A" -> ["A", "B"]. Spaces around a name belong to the writing here, not to the name. */
function parseGroups(text) {
  return [...new Set(text.split(',').map((group) => group.trim()).filter((group) => group !== ''))];
}

function sameSet(a, b) {
  return a.length === b.length && a.every((value) => b.includes(value));
}

class Panel {
  constructor(root, suggestedJid) {
    this.root = root;
    this.gate = new Rostergate();
    this.editing = new Map(); /* "group\njid" -> the edit form that is open */
    this.drawn = true;
    const $ = (selector) => root.querySelector(selector);
    this.$ = $;
    $('.sign-in').jid.value = suggestedJid;
    this.onSubmit($('.sign-in'), (form) => this.signIn(form));
    this.onSubmit($('.add'), (form) => this.add(form));
    $('.sign-out').addEventListener('click', () => this.attempt(() => this.gate.signOut(), $('.sign-out')));
    this.gate.addEventListener('change', (event) => this.changed(event.detail));
    this.gate.addEventListener('reset', () => this.draw());
    this.gate.addEventListener('sync', (event) => {
      this.log(event.detail.resumed ? 'resumed where the stream was cut' : 'list complete');
      if (!event.detail.resumed) this.draw();
    });
    this.gate.addEventListener('state', () => this.showState());
    this.gate.addEventListener('signed-out', (event) => this.signedOut(event.detail.reason));
    this.showState();
  }

  onSubmit(form, action) {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.attempt(() => action(form), form.querySelector('[type=submit]'));
    });
  }

  /* Runs one action, its button off meanwhile, and shows what went wrong. */
  async attempt(action, button) {
    this.showError('');
    button.disabled = true;
    try {
      await action();
    } catch (error) {
      this.showError(error.code ? `${error.message} (${error.code})` : String(error));
    } finally {
      button.disabled = false;
    }
  }

  showError(text) {
    const box = this.$('.error');
    box.textContent = text;
    box.hidden = text === '';
  }

  async signIn(form) {
    const password = form.password.value;
    form.password.value = '';
    await this.gate.signIn(form.jid.value.trim(), password, { stream: false });
    this.$('.who').textContent = this.gate.jid;
    form.hidden = true;
    this.$('.signed-in').hidden = false;
    this.$('.sign-out').hidden = false;
    this.$('.log').replaceChildren();
    await this.gate.open();
    this.focus(this.$('.add').jid);
  }

  /* Never takes the keyboard away from somebody who has gone on to something else meanwhile. */
  focus(element) {
    if ([null, document.body].includes(document.activeElement)) element.focus();
  }

  signedOut(reason) {
    this.$('.who').textContent = 'Not signed in';
    this.$('.sign-in').hidden = false;
    this.$('.signed-in').hidden = true;
    this.$('.sign-out').hidden = true;
    this.$('.groups').replaceChildren();
    this.editing.clear();
    if (reason !== 'signed-out') this.showError(REASONS[reason] ?? `Signed out (${reason}).`);
  }

  /* The form is free for the next contact at once; what was refused comes back if it still is. */
  async add(form) {
    const fields = [form.jid, form.name, form.elements.groups];
    const [jid, name, groups] = fields.map((field) => field.value);
    form.reset();
    try {
      await this.gate.add(jid.trim(), { name: name.trim() || null, groups: parseGroups(groups) });
    } catch (error) {
      const free = fields.every((field) => field.value === '');
      if (free) fields.forEach((field, i) => { field.value = [jid, name, groups][i]; });
      throw error;
    } finally {
      this.focus(form.jid);
    }
  }

  showState() {
    const { state, connection } = this.gate;
    const xmpp = connection === 'open' ? STATES[state] : undefined;
    this.root.dataset.connection = connection;
    this.root.dataset.state = state;
    this.$('.state-text').textContent =
      state === 'signed-out' ? 'signed out' : xmpp ?? CONNECTIONS[connection];
  }

  changed({ op, jid, item, previous }) {
    if (op === 'remove') this.log(`removed ${previous.name ?? jid}`);
    else this.log(`${previous === null ? 'added' : 'changed'} ${item.name ?? jid}`);
    this.draw();
  }

  log(text) {
    const line = document.createElement('li');
    const time = document.createElement('time');
    time.textContent = new Date().toLocaleTimeString();
    line.append(time, ` ${text}`);
    const list = this.$('.log');
    list.prepend(line);
    while (list.children.length > LOG_LENGTH) list.lastElementChild.remove();
  }

  /* Many changes of one moment are drawn once. */
  draw() {
    if (!this.drawn) return;
    this.drawn = false;
    queueMicrotask(() => {
      this.drawn = true;
      this.drawNow();
    });
  }

  drawNow() {
    const groups = new Map();
    for (const item of this.gate.roster.values()) {
      for (const group of item.groups.length > 0 ? item.groups : [null]) {
        if (!groups.has(group)) groups.set(group, []);
        groups.get(group).push(item);
      }
    }
    const names = [...groups.keys()].sort((a, b) => (a === null) - (b === null) || compare(a, b));
    const focused = document.activeElement;
    this.$('.count').textContent = `Contacts (${this.gate.roster.size})`;
    this.$('.groups').replaceChildren(...names.map((name) => this.groupElement(name, groups.get(name))));
    if (focused !== document.activeElement && focused?.isConnected) focused.focus();
  }

  groupElement(name, items) {
    const element = copy('group-template');
    element.querySelector('h4').textContent = name ?? NO_GROUP;
    if (name === null) element.classList.add('no-group');
    items.sort((a, b) => compare(a.name ?? a.jid, b.name ?? b.jid));
    element.querySelector('ul').append(...items.map((item) => this.itemElement(name, item)));
    return element;
  }

  itemElement(group, item) {
    const key = `${group ?? ''}\n${item.jid}`;
    const element = copy('item-template');
    const $ = (selector) => element.querySelector(selector);
    element.dataset.jid = item.jid;
    element.dataset.key = key;
    $('.item-name').textContent = item.name ?? item.jid;
    $('.item-jid').textContent = item.name === null ? '' : item.jid;
    $('.item-subscription').textContent =
      item.ask === null ? SUBSCRIPTIONS[item.subscription] : 'asked, not answered yet';
    $('.edit').setAttribute('aria-label', `Edit ${item.name ?? item.jid}`);
    $('.remove').setAttribute('aria-label', `Remove ${item.name ?? item.jid}`);
    $('.edit').addEventListener('click', () => this.openEditor(key, element, item));
    $('.remove').addEventListener('click', (event) => {
      this.attempt(() => this.gate.remove(item.jid), event.currentTarget);
    });
    const open = this.editing.get(key);
    if (open !== undefined) {
      /* What was typed outlives a change that arrives meanwhile. */
      $('.item-edit').replaceWith(open);
      $('.item-view').hidden = true;
    }
    return element;
  }

  openEditor(key, element, item) {
    const form = element.querySelector('.item-edit');
    form.name.value = item.name ?? '';
    form.elements.groups.value = item.groups.join(', ');
    form.querySelector('.cancel').addEventListener('click', () => this.closeEditor(key));
    this.onSubmit(form, async () => {
      await this.save(item, form);
      this.closeEditor(key);
    });
    this.editing.set(key, form);
    element.querySelector('.item-view').hidden = true;
    form.hidden = false;
    form.name.focus();
  }

  /* The keyboard goes back to where it was before; after a regroup that place may be gone. */
  closeEditor(key) {
    this.editing.delete(key);
    this.drawNow();
    this.root.querySelector(`[data-key="${CSS.escape(key)}"] .edit`)?.focus();
  }

  /* Only what was edited is written, so a change made elsewhere to the other member stays. */
  async save(item, form) {
    const name = form.name.value.trim();
    const groups = parseGroups(form.elements.groups.value);
    const renamed = name !== (item.name ?? '');
    const regrouped = !sameSet(groups, item.groups);
    if (renamed && regrouped) await this.gate.update(item.jid, { name: name || null, groups });
    else if (renamed) await this.gate.rename(item.jid, name);
    else if (regrouped) await this.gate.regroup(item.jid, groups);
  }
}

for (const [index, jid] of ['juliet@example.com', 'romeo@example.com'].entries()) {
  const root = copy('panel-template');
  root.id = `panel-${index + 1}`;
  root.setAttribute('aria-label', index === 0 ? 'Left user' : 'Right user');
  byId('panels').append(root);
  new Panel(root, jid);
}
