/** Which flush of the backing device serves which ticket. */
import { describe, expect, it } from 'vitest';
import { FlushTickets } from '../../src/engine/background/flush-tickets.js';

describe('tickets for flushes of the backing device', () => {
  it('a ticket is served by a flush that began after it was given out and covers its kset', () => {
    const tickets = new FlushTickets();
    const ticket = tickets.request(3);
    expect(tickets.wouldServe(2)).toBe(false);
    expect(tickets.wouldServe(3)).toBe(true);
    tickets.begin(3);
    expect(tickets.isServed(ticket)).toBe(false);
    tickets.succeed();
    expect(tickets.isServed(ticket)).toBe(true);
    expect(tickets.isWanted).toBe(false);
  });

  it('a flush that began before the ticket was given out does not serve it', () => {
    const tickets = new FlushTickets();
    const early = tickets.request();
    tickets.begin(0);
    const late = tickets.request();
    tickets.succeed();
    expect([tickets.isServed(early), tickets.isServed(late)]).toEqual([true, false]);
    expect(tickets.isWanted).toBe(true);
  });

  it('a flush that covers too few ksets serves no ticket, and counts as a flush all the same', () => {
    const tickets = new FlushTickets();
    const ticket = tickets.request(5);
    const flush = tickets.owe();
    tickets.begin(4);
    tickets.succeed();
    expect(tickets.isServed(ticket)).toBe(false);
    expect(tickets.isDone(flush)).toBe(true);
  });

  it('a flush that failed serves nobody, and the next one that succeeds stands in for it', () => {
    const tickets = new FlushTickets();
    const ticket = tickets.request();
    const flush = tickets.owe();
    tickets.begin(0);
    expect([tickets.isServed(ticket), tickets.isDone(flush)]).toEqual([false, false]);
    tickets.begin(0);
    tickets.succeed();
    expect([tickets.isServed(ticket), tickets.isDone(flush)]).toEqual([true, true]);
    expect(tickets.isDone(tickets.owe())).toBe(false);
  });
});
