package sim

import "math/rand/v2"

// luck answers every question that is left to chance. A question is a number made from who asks and how often it has asked before;
// the answer depends on the seed and the question alone. So one answer can be taken away (calm) while all others stay, which is how
// a failing history is reduced.
//
// The answer 0 is always the dull one: no fault, no delay, nothing special.
type luck struct {
	seed uint64
	off  bool            // every answer is 0
	calm map[uint64]bool // questions that are answered by 0
	note bool            // keep the questions that were not answered by something dull
	odd  []uint64
}

func (l *luck) draw(question uint64) uint64 {
	if l.off || l.calm[question] {
		return 0
	}
	return rand.NewPCG(l.seed, question).Uint64()
}

// chance is true in perMille of 1,000 cases.
func (l *luck) chance(question uint64, perMille int) bool {
	yes := int(l.draw(question)%1000) >= 1000-perMille
	if yes {
		l.remarkable(question)
	}
	return yes
}

// remarkable notes a question whose answer was not the dull one.
func (l *luck) remarkable(question uint64) {
	if l.note {
		l.odd = append(l.odd, question)
	}
}

// asker names the questions of one actor.
type asker struct {
	luck *luck
	id   uint64
	n    uint64
}

// question returns the next question.
func (a *asker) question() uint64 {
	a.n++
	return mix(a.id, a.n)
}

func (a *asker) chance(perMille int) bool { return a.luck.chance(a.question(), perMille) }

// pick returns a number from 0 to n-1.
func (a *asker) pick(n int) int { return int(a.luck.draw(a.question()) % uint64(n)) }

// mix makes one number of two (the finaliser of MurmurHash3).
func mix(a, b uint64) uint64 {
	h := a*0x9e3779b97f4a7c15 ^ b
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// hash makes a number of a name (FNV-1a).
func hash(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return h
}
